"""Encodes and decodes float32 arrays with NNCodec, in an interpreter of its own: it wants numpy < 2. Started by plot_rd.py.

python nncodec_worker.py ARRAYS.npz DEPENDENT(0|1) QP...     prints one JSON line per QP
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time

import numpy as np
from nncodec.nn import decode, encode


def main(path: str, dependent: str, *qps: str) -> None:
    arrays = dict(np.load(path))
    signal = sum(float(np.square(x, dtype=np.float64).sum()) for x in arrays.values())
    with tempfile.TemporaryDirectory() as folder:
        for qp in qps:
            options = {"qp": int(qp), "use_dq": bool(int(dependent)), "param_opt": True, "verbose": False, "results": folder}
            with contextlib.redirect_stdout(io.StringIO()), contextlib.chdir(folder):
                began = time.process_time()
                stream = encode({name: x.copy() for name, x in arrays.items()}, options)
                middle = time.process_time()
                back = decode(stream)
                end = time.process_time()
            noise = sum(float(np.square(back[name].reshape(x.shape).astype(np.float64) - x).sum()) for name, x in arrays.items())
            found = {"setting": qp, "bytes": len(stream), "error": noise / signal, "encode": middle - began, "decode": end - middle}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(*sys.argv[1:])
