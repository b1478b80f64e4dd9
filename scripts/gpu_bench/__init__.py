"""What scripts/bench_gpu.py is made of: jobs, the two sides that do them, each in a process of its own, and the report.

Only the sides import what uses a GPU.
"""
