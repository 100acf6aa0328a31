"""Measures a mount point: realistic workloads, medians, verified content.

`python -m tools.bench DIR [--against DIR2]`. With `--against` both directories run each workload in
turn within one run, because only ratios within a run mean anything on a shared machine.
"""
