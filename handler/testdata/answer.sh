#!/usr/bin/env bash
# Answers a query: standard output is the answer, standard error is not.
echo "warming up" >&2
echo -n "$SERF_QUERY_NAME=$(cat)"
