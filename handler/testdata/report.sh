#!/bin/sh
# Says what it was given.
echo "event $SERF_EVENT $SERF_USER_EVENT $SERF_USER_LTIME from $SECGOSSIP_PRINCIPAL"
cat
echo "on standard error" >&2
exit 7
