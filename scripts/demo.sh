#!/usr/bin/env bash
# The main job on an embedded default, on a GPU or a CPU, in three stages: post-train a video tokenizer on rendered scenes,
# post-train a world model on its latents (stopped half-way and resumed), generate a video.
# Everything is written under demo/ (or $DEMO_DIR). Commands are printed before they run, so that each can be typed by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::FutureWarning}  # of the packages below, about one another
demo=${DEMO_DIR:-demo}
tokenizer_steps=${DEMO_TOKENIZER_STEPS:-1350}
steps=${DEMO_STEPS:-1600}
begin=$(date +%s)
mkdir -p "$demo"
timings=$demo/timings.txt
: >"$timings"

run() { # run LABEL COMMAND...: print, time and run one command
  local label=$1 start
  shift
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  start=$(date +%s)
  "$@"
  printf '%s\t%d\n' "$label" $(($(date +%s) - start)) >>"$timings"
}

root="log.output_root=$demo/checkpoints"
runs=$demo/checkpoints/posttraining
tokenizer_run=$runs/tokenizer/cosmos_tokenizer_cv_tiny
world_run=$runs/video2world/cosmos_v2w_tiny
# The learning rate falls over both halves together.
world=(nemo run recipe cosmos_v2w_tiny "data.path=$demo/latents" "$root" data.micro_batch_size=4
  "optim.lr_scheduler.cycle_lengths=[$steps]")

run "render sample scenes" python -m data_prep sample "$demo/scenes"

run "shards of raw video" python -m data_prep shards --recipe cosmos_tokenizer_cv_tiny --input "$demo/scenes" --output "$demo/videos"
run "post-train the tokenizer" nemo run recipe cosmos_tokenizer_cv_tiny "data.path=$demo/videos" "$root" \
  "trainer.max_steps=$tokenizer_steps" trainer.limit_val_batches=1.0 "trainer.val_check_interval=$((tokenizer_steps / 3))"
run "export the tokenizer" cosmos-nemo ckpt export "$tokenizer_run" "$demo/tokenizer" --ema --overwrite
run "measure its latents" cosmos-nemo latent-statistics "$demo/tokenizer" "$demo/scenes/videos" --num-frames 17 --overwrite

run "make a tiny text encoder" python -m data_prep tiny-text-encoder "$demo/text_encoder" --captions "$demo/scenes"
run "shards of latents" python -m data_prep shards --recipe cosmos_v2w_tiny --input "$demo/scenes" --output "$demo/latents" \
  --video-tokenizer "$demo/tokenizer" --text-encoder "$demo/text_encoder"
run "verify them" python -m data_prep verify "$demo/latents"
run "post-train the world model, first half" "${world[@]}" "trainer.max_steps=$((steps / 2))"
run "resume, second half" "${world[@]}" "trainer.max_steps=$steps"

clip=$(ls "$demo"/scenes/videos/*.mp4 | head -n 1)
caption=$(cat "$demo/scenes/metas/$(basename "${clip%.mp4}").txt")
run "reconstruct a scene" cosmos-nemo reconstruct "$clip" "$demo/reconstruction.mp4" --tokenizer "$demo/tokenizer"
run "generate a video" cosmos-nemo generate --checkpoint "$world_run" --input "$clip" --num-conditional-frames 5 \
  --prompt "$caption" --truth "$clip" --output "$demo/generated.mp4" --strip "$demo/strip.png" \
  --comparison "$demo/comparison.mp4" --guidance 0

next=(
  "python -m data_prep inspect MY_FOLDER   # videos/*.mp4 and metas/*.txt"
  "python -m data_prep shards --recipe cosmos_v2w_tiny --input MY_FOLDER --output my_shards --video-tokenizer $demo/tokenizer --text-encoder $demo/text_encoder"
  "nemo run recipe cosmos_v2w_tiny data.path=my_shards log.name=my_first_run"
  "nemo run recipe cosmos_v2w_2b --dryrun   # on GPUs, with the published weights"
)
picture=$(ls "$tokenizer_run"/validation/*.png 2>/dev/null | tail -n 1)
cosmos-nemo report "$demo/report.html" --title "cosmos-nemo demo" --run "$tokenizer_run" --run "$world_run" \
  ${picture:+--media "Stage 1: scenes held out, and what the tokenizer keeps of them=$picture"} \
  --media "Stage 1: original | reconstruction=$demo/reconstruction.mp4" \
  --media "Stage 3: the first frames given, the generated video, the truth=$demo/strip.png" \
  --media "Stage 3: the same, playing=$demo/comparison.mp4" \
  --timings "$timings" --next "source .venv/bin/activate" "${next[@]/#/--next=}"

printf '\nDone in %d s:\n' $(($(date +%s) - begin))
awk -F '\t' '{ printf "  %-40s %4d s\n", $1, $2 }' "$timings"
printf '\nLook at %s/report.html: loss curves, reconstruction, generated video.\nNext, with your own folder of mp4 files:\n' "$demo"
printf '  .venv/bin/%s\n' "${next[@]}"
