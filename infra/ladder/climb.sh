#!/bin/sh
# Climbs the accuracy ladder on Fashion-MNIST: trains the recipes of RUNGS with the seeds of SEEDS, evaluates the last
# checkpoint of each run once on the test split, and writes $OUT/ladder.md and $OUT/ladder.png.
# The same command goes on where it was interrupted. A rung at a time: `make ladder RUNGS=same-cost`.
set -eu

say() { printf '\n== %s\n' "$*" >&2; }

here=infra/ladder
say "the dataset"
"$RUN" -m jobs.prepare fashion-mnist --output "$OUT/data"
for rung in $RUNGS; do
    say "$rung: train with seeds $SEEDS"
    # shellcheck disable=SC2086 # seeds are several words
    "$RUN" -m jobs.train "$here/recipes/$rung.toml" --data "$OUT/data" --runs "$OUT/runs" --name "$rung" --seeds $SEEDS
    for seed in $SEEDS; do
        "$RUN" -m jobs.evaluate --checkpoint "$OUT/runs/$rung-seed-$seed" --data "$OUT/data" --reports "$OUT/reports" \
            >/dev/null
    done
    "$RUN" -m jobs.report "$OUT/reports" --ladder "$here/fashion-mnist.toml" --plot "$OUT/ladder.png" >"$OUT/ladder.md"
done
cat "$OUT/ladder.md"
