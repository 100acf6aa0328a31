"""The chaos runner: real processes and kernel mounts under the workloads of the simulation."""
