//! Properties: no bytes panic, what is written is read back, and how bytes are cut never matters.

mod laws;

use flotilla_resp::{Value, downgrade, encode, encode_command, parse_value};
use proptest::collection::vec;
use proptest::prelude::*;

use laws::{SMALL, read};

/// Bytes that look like RESP more often than chance would have it.
fn nearly_resp() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*2\r\n".to_vec()),
        Just(b"$3\r\nabc\r\n".to_vec()),
        Just(b"%1\r\n".to_vec()),
        Just(b"|0\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        Just(b"GET 'a'\r\n".to_vec()),
        "[-+:,#(=!~>*$_%0-9\"'\\\\tf]{1,3}".prop_map(String::into_bytes),
        vec(any::<u8>(), 1..4),
    ];
    vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[a-zA-Z ]{0,8}".prop_map(Value::Simple),
        "ERR [a-z ]{0,8}".prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        vec(any::<u8>(), 0..20).prop_map(Value::Bulk),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<f64>()
            .prop_filter("NaN differs from itself", |x| !x.is_nan())
            .prop_map(Value::Double),
        "-?[1-9][0-9]{0,30}".prop_map(Value::BigNumber),
        vec(any::<u8>(), 0..9).prop_map(|text| Value::Verbatim { kind: *b"txt", text }),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Array),
            vec(inner.clone(), 0..5).prop_map(Value::Set),
            vec(inner.clone(), 0..5).prop_map(Value::Push),
            vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

/// What a client of RESP2 is to see of a value.
fn in_resp2(value: Value) -> Value {
    let all = |values: Vec<Value>| values.into_iter().map(in_resp2).collect();
    match value {
        Value::Boolean(truth) => Value::Integer(i64::from(truth)),
        Value::Double(number) => {
            let mut text = Vec::new();
            encode::double(&mut text, number);
            Value::Bulk(text[1..text.len() - 2].to_vec())
        }
        Value::BigNumber(digits) => Value::Bulk(digits.into_bytes()),
        Value::Verbatim { text, .. } => Value::Bulk(text),
        Value::Array(values) | Value::Set(values) | Value::Push(values) => {
            Value::Array(all(values))
        }
        Value::Map(pairs) => {
            Value::Array(all(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()))
        }
        same => same,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_keep_the_laws(bytes in nearly_resp(), cut in any::<u8>()) {
        laws::requests(&[&[cut], bytes.as_slice()].concat());
        laws::values(&bytes);
        let mut out = Vec::new();
        if downgrade(&bytes, &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
    }

    #[test]
    fn commands_are_read_as_they_were_written(
        args in vec(vec(any::<u8>(), 0..20), 1..7),
        piece in 1_usize..40,
    ) {
        let mut bytes = Vec::new();
        encode_command(&args.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut bytes);
        prop_assert_eq!(read(&bytes, SMALL, piece), (vec![args], None));
    }

    #[test]
    fn values_are_read_as_they_were_written(value in value()) {
        let mut bytes = Vec::new();
        encode::value(&mut bytes, &value);
        prop_assert_eq!(parse_value(&bytes), Ok(Some((value.clone(), bytes.len()))));
        for end in 0..bytes.len() {
            prop_assert_eq!(parse_value(&bytes[..end]), Ok(None));
        }
        let mut resp2 = Vec::new();
        prop_assert_eq!(downgrade(&bytes, &mut resp2), Ok(()));
        prop_assert_eq!(parse_value(&resp2), Ok(Some((in_resp2(value), resp2.len()))));
    }
}
