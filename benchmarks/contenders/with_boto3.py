"""boto3: `default` is a loop over `download_file`; `tuned` sets its transfers; `crt` has the CRT carry them.

The CRT takes an endpoint's port for a part of its name, so it needs one on the usual port.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from _job import call, job, path_of
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

the_job = job()
style, threads, part = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
address = {} if the_job.endpoint is None else {"endpoint_url": the_job.endpoint}
client = boto3.client("s3", **address, config=Config(max_pool_connections=max(10, threads)))

transfer = None
if style == "tuned" and the_job.size <= part:
    transfer = TransferConfig(use_threads=False)
elif style == "tuned":
    transfer = TransferConfig(max_concurrency=threads, multipart_chunksize=part, io_chunksize=1 << 20)
elif style == "crt":
    transfer = TransferConfig(preferred_transfer_client="crt", multipart_chunksize=part)


def download(key: str) -> None:
    client.download_file(the_job.bucket, key, path_of(the_job.target, key), Config=transfer)


if the_job.warm:
    client.head_object(Bucket=the_job.bucket, Key=the_job.warm)
with call():
    if style == "default" or len(the_job.keys) == 1:
        for key in the_job.keys:
            download(key)
    else:
        with ThreadPoolExecutor(threads if the_job.size <= part else 4) as pool:
            list(pool.map(download, the_job.keys))
