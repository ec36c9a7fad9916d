#!/bin/sh
# find and xargs: any choice of files, any name (-print0 and -0 are safe with spaces and newlines),
# any -n and -P. The /. keeps subfolders: a/x.jpg and b/x.jpg become a/x-canny.png and b/x-canny.png.
# usage: find-xargs.sh [PHOTOS] [OUT]
set -eu
photos=${1:-"$(dirname "$0")/images"}
out=${2:-out}

# Photographs of less than 1 MB, two processes at a time, 50 files each; -q prints only errors.
# Each starts once for its 50 files. Finished hints are skipped, so you can repeat this.
find "$photos/." -name '*.jpg' -size -1024k -print0 |
    xargs -0 -n 50 -P 2 cnctl annotate --cond canny -q -o "$out" >/dev/null

# The thresholds of Canny are options; each pair gets its own folder.
for low in 50 150; do
    find "$photos/." -name '*.jpg' -print0 |
        xargs -0 cnctl annotate --cond canny --option low_threshold="$low" -q -o "$out/low-$low"
done
