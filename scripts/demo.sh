#!/usr/bin/env bash
# The main job on an embedded default, on a GPU or a CPU: videos -> shards -> training -> resume -> generated video.
# Everything is written under demo/ (or $DEMO_DIR). Commands are printed before they run, so that each can be typed by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::FutureWarning}  # of the packages below, about one another
demo=${DEMO_DIR:-demo}
steps=${DEMO_STEPS:-1200}
begin=$(date +%s)
timings=()

run() { # run LABEL COMMAND...: print, time and run one command
  local label=$1 start
  shift
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  start=$(date +%s)
  "$@"
  timings+=("$(printf '%-34s %4d s' "$label" $(($(date +%s) - start)))")
}

recipe=(nemo run recipe cosmos_v2w_tiny "data.path=$demo/shards" "log.output_root=$demo/checkpoints")
run_dir=$demo/checkpoints/posttraining/video2world/cosmos_v2w_tiny

run "render sample scenes" python -m data_prep sample "$demo/scenes"
run "make tiny encoders" python -m data_prep encoders "$demo/encoders" --videos "$demo/scenes"
run "encode to Energon shards" python -m data_prep shards --input "$demo/scenes" --output "$demo/shards" \
  --num-frames 17 --height 64 --width 96 --vae "$demo/encoders/vae" --text-encoder "$demo/encoders/text_encoder"
run "train the first half" "${recipe[@]}" "trainer.max_steps=$((steps / 2))"
run "resume and train the second half" "${recipe[@]}" "trainer.max_steps=$steps"
run "plot the loss" cosmos-nemo plot "$run_dir" --output "$demo/loss.png"
clip=$(ls "$demo"/scenes/videos/*.mp4 | head -n 1)
caption=$(cat "$demo/scenes/metas/$(basename "${clip%.mp4}").txt")
run "generate a video" cosmos-nemo generate --checkpoint "$run_dir" --input "$clip" --num-conditional-frames 5 \
  --prompt "$caption" --truth "$clip" --output "$demo/generated.mp4" --strip "$demo/strip.png" \
  --comparison "$demo/comparison.mp4" --guidance 0

printf '\n%s\n' "Done in $(($(date +%s) - begin)) s:"
printf '  %s\n' "${timings[@]}"
cat <<END

Look at:  $demo/loss.png       the loss, both halves
          $demo/strip.png      input | generated | truth
          $demo/generated.mp4  the video
Next, with your own folder of mp4 files (videos/*.mp4 and metas/*.txt), change one path:
  .venv/bin/python -m data_prep shards --input MY_FOLDER --output my_shards --num-frames 17 --height 64 --width 96 \\
      --vae $demo/encoders/vae --text-encoder $demo/encoders/text_encoder
  .venv/bin/nemo run recipe cosmos_v2w_tiny data.path=my_shards log.name=my_first_run
and, on GPUs with the published weights:
  .venv/bin/nemo run recipe cosmos_v2w_2b --dryrun
END
