#!/usr/bin/env bash
# Opens its streams again by name, as many scripts do.
cat /dev/stdin
echo "to standard output" > /dev/stdout
echo "to standard error" > /dev/stderr
