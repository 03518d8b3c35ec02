#!/bin/sh
# The study of bench/laser-refusals.yaml from nothing: its prompts, the six models that its sources and its policy are,
# the gate, the study. The first policy, the longest of it, is kept where it is there: take runs/laser away for a new one.
# Usage, from the project's root: sh bench/laser_refusals.sh DATA [the study's options]; GATE=1 stops after the gate.
set -eu
data=$1
shift
models=runs/laser
answers=$data/xstest/xstest_v2_completions
mkdir -p $models

fitted() { # name, then what it is fitted to: to the first 18 words of answers, which are all that it will read
    out=$models/$1.json
    shift
    klimb rewards fit "$@" --first 18 --out "$out"
}

fitted harmless "$data/hh-rlhf-harmless/test.jsonl.gz" rows=hh skip=true
fitted helpful "$data/ultrafeedback-sample/train_1000.jsonl" rows=pairs
fitted people "$data/pandalm/pandalm_testset-v1.json" rows=pandalm skip=true
fitted refusal "${answers}_llama2orig.csv" --also "${answers}_mistralinstruct.csv" rows=xstest
fitted verdict "${answers}_gpt4.csv" --also "${answers}_mistralguard.csv" rows=xstest

# SmolLM2-135M-Instruct refuses nothing: what is rewarded for refusing has to be begun with, on training prompts alone.
python bench/laser_prompts.py "$data" $models
[ -e $models/begin/checkpoints/step-000042 ] || klimb train recipes/sft-hh.yaml data.path=$models/answers.jsonl data.rows=labelled \
    data.skip=false source.answer_tokens=32 sampling.max_tokens=32 optimizer.lr=2.0e-5 optimizer.warmup=4 training.steps=42 \
    evaluation.every=42 evaluation.problems=32 checkpoints.every=42 run=$models/begin

rm -rf $models/gate
# Worth going on where `final` finds some answers right and some wrong on both sides, and two arms go with it on one side
# and against it on the other.
klimb train recipes/laser.yaml "combining={type: mean}" objective.beta=0 optimizer.lr=0 \
    training.steps=8 evaluation.start=false evaluation.end=false checkpoints.every=8 run=$models/gate > $models/gate.log 2>&1 ||
    { code=$?; tail $models/gate.log >&2; exit $code; }
python bench/laser_gate.py $models/gate
[ "${GATE:-0}" = 1 ] || python bench/laser_study.py bench/laser-refusals.yaml "$@"
