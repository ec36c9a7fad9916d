#!/bin/sh
# Pipes: an image on stdin becomes a hint on stdout, without files in between.
# usage: pipe.sh [PHOTOS] [OUT]
set -eu
photos=${1:-"$(dirname "$0")/images"}
out=${2:-out}
mkdir -p "$out"

# "-" is stdin as an input and stdout as -o. Only data goes to stdout; messages go to stderr.
for photo in "$photos"/*.jpg; do
    cnctl annotate --cond canny - -o - <"$photo" >"$out/$(basename "$photo" .jpg).png"
done

# So any program can stand at either end. Here Python counts the white pixels of one hint.
cnctl annotate --cond canny "$photo" -o - | python3 -c '
import sys
from PIL import Image
hint = Image.open(sys.stdin.buffer).convert("L")
print(f"{hint.width} x {hint.height}, {hint.histogram()[255]} pixels of edge")'
