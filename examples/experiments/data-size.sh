#!/bin/sh
# Figure 22 of the paper on the embedded base: Canny ControlNets trained on 10 to 10,000 scenes for
# the same number of steps, and the F1 of each on held-out scenes. A smaller set is part of
# each larger one; with your own data, --sample N draws such parts.
# When repeated, it continues where it stopped.
# usage: data-size.sh [OUT]
set -eu
out=${1:-out/data-size}

for size in 10 100 1000 10000; do
    cnctl train --cond canny --data "scenes:$size" --base tiny --steps "${STEPS:-150}" \
        --held-out 0 --preview-every 0 --resume --quiet -o "$out/$size"
done

cnctl evaluate --cond canny --data scenes:64 --base tiny --resume -o "$out/evaluation" \
    --control "$out/10" --control "$out/100" --control "$out/1000" --control "$out/10000"
