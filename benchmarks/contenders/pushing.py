"""A file becomes an object: `datacachalog` (which puts it into its cache too), `boto3` default or tuned."""

from __future__ import annotations

import sys

from _job import call, job

the_job = job()
library = sys.argv[2]
(key,) = the_job.keys

if library == "datacachalog":
    from datacachalog import Catalog, Dataset, S3Storage

    datasets = [Dataset("pushed", f"s3://{the_job.bucket}/{key}")]
    datasets += [Dataset("warm", f"s3://{the_job.bucket}/{the_job.warm}")] if the_job.warm else []
    storage = S3Storage(endpoint_url=the_job.endpoint)
    with Catalog(datasets, cache_dir=the_job.target, storage=storage, progress=False) as catalog:
        if the_job.warm:
            catalog.is_stale("warm")
        with call():
            catalog.push("pushed", the_job.source)
else:
    import boto3
    from boto3.s3.transfer import TransferConfig

    tuned = TransferConfig(max_concurrency=16, multipart_chunksize=16 << 20)
    client = boto3.client("s3", endpoint_url=the_job.endpoint)
    if the_job.warm:
        client.head_object(Bucket=the_job.bucket, Key=the_job.warm)
    with call():
        client.upload_file(the_job.source, the_job.bucket, key, Config=tuned if library == "boto3-tuned" else None)
