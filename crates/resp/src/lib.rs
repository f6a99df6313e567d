//! RESP2 and RESP3: an incremental zero-copy decoder and an encoder
