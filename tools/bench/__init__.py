"""Measures a mount point: realistic workloads, medians, verified content.

`python -m tools.bench TARGET [--against TARGET]...`. With `--against` all targets run each workload
in turn within one run, because only ratios within a run mean anything on a shared machine. A target
is a directory, or the name of a filesystem that is started for the run (`rivals/`).
"""
