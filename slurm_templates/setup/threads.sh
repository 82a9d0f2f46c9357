#!/bin/bash
# Libraries that would start a thread for each core of the node, although a rank has a share of them.
export OPENBLAS_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1
