"""s3fs: `get` of all keys at once."""

from __future__ import annotations

import sys

import s3fs
from _job import call, job, path_of

the_job = job()
at_once, part, ranges = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
address = {} if the_job.endpoint is None else {"endpoint_url": the_job.endpoint}
files = s3fs.S3FileSystem(
    client_kwargs=address,
    config_kwargs={"max_pool_connections": max(at_once * ranges, 10)},
    default_block_size=part,
    max_concurrency=ranges,
    use_listings_cache=False,
)

if the_job.warm:
    files.info(f"{the_job.bucket}/{the_job.warm}")
with call():
    files.get(
        [f"{the_job.bucket}/{key}" for key in the_job.keys],
        [path_of(the_job.target, key) for key in the_job.keys],
        batch_size=at_once,
    )
