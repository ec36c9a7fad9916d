#!/bin/sh
# Eight hints of eight conditions, each with a prompt and four seeds: one sheet per hint, OUT/*-grid.png.
# usage: toys.sh [OUT]
set -eu
hints=$(dirname "$0")/hints
out=${1:-out/toys}

# --hint says that the inputs are hints, so no detector runs; --grid shows each hint with its images.
while IFS=: read -r hint prompt; do
    cnctl generate --cond "${hint%%-*}" "$hints/$hint.png" --hint -p "$prompt" \
        --base tiny -n 4 --seed 0 --grid --overwrite --quiet -o "$out"
done <<END
canny-cat:an orange cat
hough-house:a red house in the snow
hed-bird:a blue bird
scribble-fish:a yellow fish
depth-flower:a pink flower on the grass
normal-car:a green car
ade20k-boat:a white boat on the sea
openpose-person:a person on the beach
END
