#!/bin/bash
# Train on several GPUs of several nodes: one torchrun a node, begun by srun, one process a GPU.
#   sbatch --nodes=2 --gpus-per-node=4 examples/slurm/train.sh --max_epochs 30 --batch_size 64
# Words behind the script's name are options of the training. It goes on where it was cut off: a job that is requeued, or
# submitted again with the same words, takes up the newest checkpoint of OUTPUT, which all nodes must see.
#SBATCH --job-name=monai_cryo
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# sbatch runs a copy of this file: paths are those of the folder in which it was submitted
BUNDLE=${BUNDLE:-bundles/subtomogram}
CONFIGS=${CONFIGS:-"['$BUNDLE/configs/train.yaml','$BUNDLE/configs/multi_gpu_train.yaml']"}
OUTPUT=${OUTPUT:-runs/multi_gpu}
# a node without GPUs trains with as many processes as PROCESSES says, over gloo
PROCESSES=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# a port that is free on the first node: several jobs may share it
FREE='import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
PORT=$(srun --nodes=1 --ntasks=1 --nodelist="$FIRST" python -c "$FREE")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((SLURM_CPUS_PER_TASK / PROCESSES > 0 ? SLURM_CPUS_PER_TASK / PROCESSES : 1))}

srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="$PROCESSES" \
    --rdzv_id="$SLURM_JOB_ID" --rdzv_backend=c10d --rdzv_endpoint="$FIRST:$PORT" \
    -m monai.bundle run training --bundle_root "$BUNDLE" --config_file "$CONFIGS" \
    --output_dir "$OUTPUT" --resume auto "$@"
