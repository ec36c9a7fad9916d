#!/bin/sh
# --json: one document on stdout, read here without jq, to work on each hint in turn.
# usage: json-loop.sh [PHOTOS] [OUT]        CNCTL_BASE chooses the base model
set -eu
photos=${1:-"$(dirname "$0")/images"}
out=${2:-out}
mkdir -p "$out"

# {"hints": [{"path", "image", "condition", ...}], "failed": [{"image", "error"}]}; exit code 3 if
# some images failed, which the document then names.
cnctl annotate --cond canny "$photos" -o "$out/hints" --json -q >"$out/hints.json" || [ $? -eq 3 ]

lines='
import json, sys
for hint in json.load(sys.stdin)["hints"]:
    print(hint["image"], hint["path"], sep="\t")'

# The name of each photograph becomes the prompt: cat.jpg -> "cat".
python3 -c "$lines" <"$out/hints.json" | while IFS="$(printf '\t')" read -r image hint; do
    prompt=$(basename "${image%.*}")
    cnctl generate --cond canny --hint "$hint" -p "$prompt" -o "$out/images" -q </dev/null
done
