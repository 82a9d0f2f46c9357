#!/bin/bash
# Environment modules, where a site has them and its batch shells do not: some know them in login shells alone.
type module >/dev/null 2>&1 || source /etc/profile.d/modules.sh 2>/dev/null || true
# module load cuda apptainer
