#!/usr/bin/env bash
# Trains every objective of a study and prints the table: bench/objectives.sh bench/objectives-tiny.yaml --seeds 5
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python bench/objectives.py "$@"
