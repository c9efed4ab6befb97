"""The kernels: llama.cpp's C API, brought into the process and checked. No scheduling and no sampling here."""
