"""Where are the originals? One module for each kind of store; none of them imports its library before it is used."""

from ._azure import AzureStorage
from ._filesystem import FilesystemStorage
from ._gcs import GCSStorage
from ._http import HTTPStorage
from ._router import RouterStorage
from ._s3 import S3Storage

__all__ = ["AzureStorage", "FilesystemStorage", "GCSStorage", "HTTPStorage", "RouterStorage", "S3Storage"]
