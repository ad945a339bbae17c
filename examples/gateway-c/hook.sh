#!/bin/sh
# The kit's control hook for this bench: hook.sh METERS VERB [METER]; a meter whose file is away does not answer.
case "$2" in
verbs) echo unplug plug ;;
unplug) mv "$1/$3" "$1/.$3" ;;
plug) mv "$1/.$3" "$1/$3" ;;
*) echo "no such verb: $2" >&2 && exit 1 ;;
esac
