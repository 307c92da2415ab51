#!/bin/sh
# Runs all jobs on the real Fashion-MNIST: prepare, train on two workers, evaluate, report.
set -eu

if [ "$STORAGE" = s3 ] && [ -z "${DEMO_ON_S3:-}" ]; then
    # Start a real S3 server, and run this script again with AWS_* variables that point to it.
    export DEMO_ON_S3=1
    exec "$RUN" -m infra.local_s3 --data "$OUT/s3" --bucket demo -- sh "$0"
fi

case $STORAGE in
    local) base=$OUT ;;
    s3) base=s3://demo ;;
    *) echo "demo: STORAGE must be local or s3. Received '$STORAGE'." >&2 && exit 2 ;;
esac

say() { printf '\n== %s\n' "$*" >&2; }

say "1 of 4: prepare the dataset"
"$RUN" -m jobs.prepare fashion-mnist --output "$base/data"
say "2 of 4: train small-cnn on two workers"
"$RUN" -m jobs.train demo --data "$base/data" --runs "$base/runs" --name demo
say "3 of 4: evaluate the last checkpoint on the 10,000 test images, against the recipe's gates"
"$RUN" -m jobs.evaluate --checkpoint "$base/runs/demo" --data "$base/data" --reports "$base/reports" \
    --gate recipe >/dev/null
say "4 of 4: report"
"$RUN" -m jobs.report "$base/reports" latest

cat <<EOF
dataset   $base/data         (preview.png: the first 25 images)
run       $base/runs/demo    (checkpoints, history.parquet, learning-curves.png)
report    $base/reports      (per_class/, overall/, confusion/, predictions/, …: Parquet)
page      $base/reports/pages/index.html
EOF
