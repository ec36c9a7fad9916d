#!/bin/sh
# Pipes: an image goes in on stdin, its hint comes out on stdout, and no file lies in between.
# usage: pipe.sh [PHOTOS] [OUT]
set -eu
photos=${1:-"$(dirname "$0")/images"}
out=${2:-out}
mkdir -p "$out"

# "-" is stdin as an input and stdout as -o. Only data is on stdout; whatever is said is on stderr.
for photo in "$photos"/*.jpg; do
    cnctl annotate --cond canny - -o - <"$photo" >"$out/$(basename "$photo" .jpg).png"
done

# So any program fits at either end. Here Python counts the white pixels of one hint.
cnctl annotate --cond canny "$photo" -o - | python3 -c '
import sys
from PIL import Image
hint = Image.open(sys.stdin.buffer).convert("L")
print(f"{hint.width} x {hint.height}, {hint.histogram()[255]} pixels of edge")'
