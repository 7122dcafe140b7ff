#!/bin/sh
# Starts children that outlive it unless somebody ends them, and never ends.
# Their process ids go to the file that the payload names, or to its output.
read -r file
[ -z "$file" ] || exec > "$file"
sleep 100000 &
echo $!
(trap '' TERM INT HUP; sleep 100000) &
echo $!
wait
