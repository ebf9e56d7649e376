"""One-shot job in the store's image: makes the bucket of MULTILORA_BLOB_URL, once object storage answers."""

import sys
import time

from minio import Minio

from services.adapter_store.settings import PlaceSettings
from services.common.settings import parse

WAIT_S = 60.0


def main() -> int:
    """0: the bucket is there; 1: object storage did not answer, or refused."""
    settings = parse(PlaceSettings, sys.argv[1:], prog="bucket", description="Makes the store's bucket.")
    place, credentials = settings.s3_place, settings.s3_credentials()
    client = Minio(
        place.endpoint.host,
        credentials.access_key,
        credentials.secret_key,
        secure=place.endpoint.secure,
        region=place.endpoint.region,
    )
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            if not client.bucket_exists(place.bucket):
                client.make_bucket(place.bucket)
            print(f"bucket {place.bucket} is there")
            return 0
        except Exception as error:
            if time.monotonic() > deadline_s:
                print(f"bucket: {error}", file=sys.stderr)
                return 1
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
