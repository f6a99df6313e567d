//! What must hold of any bytes, for the property tests and for the fuzz targets.

use flotilla_resp::{
    Limits, ProtocolError, RequestDecoder, downgrade, encode_command, parse_value,
};

/// Limits that short inputs reach.
pub(crate) const SMALL: Limits =
    Limits { max_bulk: 40, max_request_bytes: 200, max_elements: 8, max_inline: 50 };

/// The arguments of requests.
type Requests = Vec<Vec<Vec<u8>>>;

/// The requests and the error that a connection sees when the bytes arrive in pieces of this size.
pub(crate) fn read(
    bytes: &[u8],
    limits: Limits,
    piece: usize,
) -> (Requests, Option<ProtocolError>) {
    let mut decoder = RequestDecoder::new(limits);
    let (mut requests, mut dropped, mut end) = (Vec::new(), 0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + piece);
        loop {
            match decoder.decode(&bytes[dropped..end]) {
                Ok(Some(request)) => {
                    requests.push(request.args().map(<[u8]>::to_vec).collect());
                    dropped += request.consumed();
                }
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        dropped += decoder.take_skipped();
        if dropped == end {
            // What a connection does that has nothing to read for a while.
            decoder.rest();
        }
    }
    (requests, None)
}

/// Requests are the same however their bytes are cut, keep the limits, and are read back when they
/// are written again. The first byte says how the others are cut, and whether the limits are small.
pub(crate) fn requests(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else { return };
    let limits = if first & 1 == 0 { SMALL } else { Limits::default() };
    let whole = read(bytes, limits, bytes.len().max(1));
    let cut = read(bytes, limits, usize::from(first >> 1).max(1));
    assert_eq!(whole, cut, "pieces of {} bytes give something else", first >> 1);
    assert_eq!(whole, read(bytes, limits, 1), "single bytes give something else");
    for request in &whole.0 {
        assert!(!request.is_empty(), "a request has a name");
        assert!(request.len() <= limits.max_elements.max(limits.max_inline), "too many arguments");
        let args: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        let mut written = Vec::new();
        encode_command(&args, &mut written);
        let (again, error) = read(&written, Limits::default(), written.len());
        assert_eq!((again.as_slice(), error), (std::slice::from_ref(request), None));
    }
}

/// A value is incomplete before its end, and whole values stay whole when they are turned into
/// RESP2.
pub(crate) fn values(bytes: &[u8]) {
    let parsed = parse_value(bytes);
    if let Ok(Some((value, length))) = &parsed {
        assert!(*length <= bytes.len(), "a value is within its bytes");
        for cut in 0..*length {
            assert_eq!(parse_value(&bytes[..cut]), Ok(None), "{value:?} cut at {cut} is no value");
        }
    }
    let mut older = Vec::new();
    let rewritten = downgrade(bytes, &mut older);
    assert!(rewritten.is_ok() || older.is_empty(), "an error leaves nothing behind");
    let whole = parsed.is_ok_and(|value| value.is_some_and(|(_, length)| length == bytes.len()));
    if whole && rewritten.is_ok() {
        let (_, length) = parse_value(&older).expect("RESP").expect("a whole value");
        assert_eq!(length, older.len(), "one value stays one");
    }
}
