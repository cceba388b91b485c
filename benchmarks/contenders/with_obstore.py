"""obstore: blocking calls in threads, which release the interpreter lock; large objects in parallel ranges."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from _job import call, job, path_of
from obstore.store import S3Store

the_job = job()
threads, part = int(sys.argv[2]), int(sys.argv[3])
options = {"allow_http": True, "pool_max_idle_per_host": str(threads)}
if (the_job.endpoint or "").startswith("https") and "AWS_CA_BUNDLE" in os.environ:
    with open(os.environ["AWS_CA_BUNDLE"], "rb") as file:
        options["root_certificate"] = file.read()
address = {} if the_job.endpoint is None else {"endpoint": the_job.endpoint, "virtual_hosted_style_request": False}
store = S3Store(the_job.bucket, **address, region=os.environ.get("AWS_REGION"), client_options=options)


def whole(key: str) -> None:
    with open(path_of(the_job.target, key), "wb", buffering=0) as file:
        file.write(store.get(key).bytes())


def piece(descriptor: int, key: str, start: int) -> None:
    length = min(part, the_job.size - start)
    os.pwrite(descriptor, store.get_range(key, start=start, length=length), start)


def main() -> None:
    with ThreadPoolExecutor(threads) as pool:
        if the_job.size <= part:
            list(pool.map(whole, the_job.keys))
            return
        descriptors = []
        pieces = []
        for key in the_job.keys:
            descriptor = os.open(path_of(the_job.target, key), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            descriptors.append(descriptor)
            pieces += [pool.submit(piece, descriptor, key, start) for start in range(0, the_job.size, part)]
        for one in pieces:
            one.result()
        for descriptor in descriptors:
            os.close(descriptor)


if the_job.warm:
    store.head(the_job.warm)
with call():
    main()
