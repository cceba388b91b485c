"""How do the objects come into a real bucket? `python _upload.py DIRECTORY BUCKET`, in a process of its own.

It isn't measured, and a process that has loaded boto3 would lend its size to the memory that its children report.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

folder, bucket = Path(sys.argv[1]), sys.argv[2]
client = boto3.client("s3")
files = [path for path in folder.rglob("*") if path.is_file()]
with ThreadPoolExecutor(10) as pool:
    list(pool.map(lambda path: client.upload_file(str(path), bucket, path.relative_to(folder).as_posix()), files))
