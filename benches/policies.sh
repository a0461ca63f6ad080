#!/usr/bin/env bash
# Policies live on the machine at hand: the embedded digits on five CPU workers of one thread each, every one of which
# pauses for 100 ms in one run of fifty. The pauses are injected: the workers sleep. About eight minutes.
#
#   benches/policies.sh FOLDER [FLAG...]    writes JSON, tables, charts and HdrHistogram logs; flags are added
#
# Three rounds, so that what else the machine does falls on all policies alike.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1
shift
cd "$(dirname "$0")/.."
pauses=pause:0:100:0.02,pause:1:100:0.02,pause:2:100:0.02,pause:3:100:0.02,pause:4:100:0.02
cargo run --quiet --release -- bench policies \
  --policies none,replicate:2,hedge:p95,collage:3x3,collage:3x3:lazy,small,small:lazy \
  --device cpu:1 --workers 4 --collage-workers 1 --burst 9 --rate 450 --requests 18000 --rounds 3 --warm-up 50 \
  --release 3ms --releases 1ms,2ms,5ms,10ms,20ms --stragglers "$pauses" --out "$out" "$@"
