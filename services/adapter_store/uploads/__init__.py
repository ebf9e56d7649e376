"""Makes versions: starts an upload, takes its bytes, resumes, gives up, finishes. Knows no gRPC and no SQL.

Order that keeps a version wholly there or not at all: staged bytes are made durable and verified, the
blob is made durable, the file's row says `stored`, staged bytes go; and only when every file is stored
and valid does one commit turn the version ACTIVE. A kill between any two leaves what can be resumed.
"""

from services.adapter_store.uploads.idle_uploads import IdleUploads
from services.adapter_store.uploads.intake import FileTarget, Intake
from services.adapter_store.uploads.uploads import Uploads

__all__ = ["FileTarget", "IdleUploads", "Intake", "Uploads"]
