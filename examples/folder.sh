#!/bin/sh
# From a folder of photographs to images: annotate it once, then generate from every hint.
# usage: folder.sh [PHOTOS] [OUT]           CNCTL_BASE chooses the base model, PROMPT the prompt
set -eu
photos=${1:-"$(dirname "$0")/images"}
out=${2:-out}

# Folders are searched with all subfolders, which are kept below -o. A photograph that cannot be read
# is reported on stderr and skipped (exit code 3); a stopped run resumes when it is repeated.
status=0
cnctl annotate --cond canny "$photos" -o "$out/hints" || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status"

# With --hint the inputs are hints already, so nothing is detected a second time. One command for
# all of them loads the model once. The /. keeps the tree.
find "$out/hints/." -name '*-canny.png' -print0 | sort -z |
    xargs -0 cnctl generate --cond canny --hint -p "${PROMPT:-a photograph}" -o "$out/images"
