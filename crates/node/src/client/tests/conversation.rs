//! Order of replies, change of protocol, errors of the protocol, limits.

use flotilla_resp::encode_command;

use super::super::{Protocol, REPLY_BYTES_MAX};
use super::*;

#[test]
fn ready_and_deferred_replies_keep_the_order_of_requests() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    let deferred = run(&mut client, &world, b"PING\r\nGET a\r\nECHO x\r\nGET b\r\nNOSUCH\r\n");
    let [("get", a), ("get", b)] = deferred[..] else { panic!("{deferred:?}") };
    assert_eq!((output(&mut client).as_str(), client.pending()), ("+PONG\r\n", 4));
    client.fill(b, b"$1\r\nB\r\n");
    assert_eq!(output(&mut client), "");
    client.fill(a, b"_\r\n");
    let unknown = "-ERR unknown command 'NOSUCH', with args beginning with: \r\n";
    assert_eq!(output(&mut client), format!("$-1\r\n$1\r\nx\r\n$1\r\nB\r\n{unknown}"));
    assert_eq!(client.pending(), 0);
}

#[test]
fn a_reply_is_in_the_protocol_its_request_was_decoded_in() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    let deferred = run(&mut client, &world, b"GET a\r\nHELLO 3\r\nGET b\r\nHELLO 2\r\nGET c\r\n");
    assert_eq!(client.protocol(), Protocol::Resp2);
    for (_, place) in deferred.into_iter().rev() {
        client.fill(place, b"_\r\n");
    }
    let out = output(&mut client);
    assert!(out.starts_with("$-1\r\n%7\r\n"), "{out}");
    assert!(out.contains("*0\r\n_\r\n*14\r\n"), "{out}");
    assert!(out.ends_with("*0\r\n$-1\r\n"), "{out}");
}

#[test]
fn arrays_and_lines_may_be_split_anywhere() {
    let world = world();
    let mut input = b"ping\r\n".to_vec();
    encode_command(&[b"ECHO", b"a\r\nb"], &mut input);
    input.extend_from_slice(b"\r\nECHO \"c d\" \n");
    encode_command(&[b"GET", b"k"], &mut input);
    let mut whole = client(1, Face::Plain);
    assert_eq!(run(&mut whole, &world, &input).len(), 1);
    let expected = output(&mut whole);
    for cut in 0..=input.len() {
        let mut client = client(1, Face::Plain);
        let mut deferred = run(&mut client, &world, &input[..cut]);
        deferred.extend(run(&mut client, &world, &input[cut..]));
        assert_eq!((deferred.len(), output(&mut client)), (1, expected.clone()), "cut at {cut}");
        assert_eq!(client.unread(), 0);
    }
    let mut client = client(1, Face::Plain);
    let deferred: usize = input.chunks(1).map(|byte| run(&mut client, &world, byte).len()).sum();
    assert_eq!((deferred, output(&mut client)), (1, expected));
}

#[test]
fn lines_are_commands_too() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    assert_eq!(ask(&mut client, &world, "echo \"a b\""), "$3\r\na b\r\n");
    assert_eq!(ask(&mut client, &world, "\r\n\r\nping"), "+PONG\r\n");
    assert_eq!(ask(&mut client, &world, "echo 'a b' c").split(' ').next(), Some("-ERR"));
}

#[test]
fn quit_closes_after_all_earlier_replies() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    let deferred = run(&mut client, &world, b"SET a b\r\nQUIT\r\nPING\r\n");
    assert!(matches!(client.next(&world.options), Next::Closing));
    let mut out = Vec::new();
    assert!(!client.take_output(&mut out), "a write is still to be answered");
    client.fill(deferred[0].1, b"+OK\r\n");
    client.feed(b"PING\r\n", world.now);
    assert!(client.take_output(&mut out));
    assert_eq!((out.as_slice(), client.unread()), (b"+OK\r\n+OK\r\n".as_slice(), 0));
}

#[test]
fn a_protocol_error_is_answered_in_order_and_closes() {
    for (bad, text) in [
        ("*1\r\n!4\r\nPING\r\n", "Protocol error: expected '$', got '!'"),
        ("*x\r\n", "Protocol error: invalid multibulk length"),
        ("*1\r\n$-3\r\n", "Protocol error: invalid bulk length"),
        ("echo \"a\r\n", "Protocol error: unbalanced quotes in request"),
    ] {
        let (world, mut client) = (world(), client(1, Face::Plain));
        let input = format!("INCR a\r\n{bad}PING\r\n");
        let deferred = run(&mut client, &world, input.as_bytes());
        let mut out = Vec::new();
        assert!(!client.take_output(&mut out), "{bad}");
        client.fill(deferred[0].1, b":1\r\n");
        assert!(client.take_output(&mut out), "{bad}");
        assert_eq!(String::from_utf8_lossy(&out), format!(":1\r\n-ERR {text}\r\n"));
    }
}

#[test]
fn http_is_shown_the_door() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    run(&mut client, &world, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n");
    let mut out = Vec::new();
    assert!(client.take_output(&mut out));
    assert!(out.is_empty());
}

#[test]
fn a_value_beyond_the_limit_is_an_error_and_the_connection_lives() {
    let world = world_with(Options { max_value_bytes: 8, ..Options::default() });
    let mut client = client_of(&world, 1, Face::Plain);
    let error = "-ERR string exceeds maximum allowed size (proto-max-bulk-len): 9 of 8 bytes\r\n";
    assert_eq!(ask(&mut client, &world, "SET k 123456789"), error);
    assert_eq!(run(&mut client, &world, b"SET k 12345678\r\n").len(), 1);
}

#[test]
fn a_request_beyond_the_limit_closes() {
    let world =
        world_with(Options { max_value_bytes: 8, max_request_bytes: 64, ..Options::default() });
    let mut client = client_of(&world, 1, Face::Plain);
    run(&mut client, &world, b"*2\r\n$4\r\nECHO\r\n$65\r\n");
    assert!(client.is_closing());
    let out = output(&mut client);
    assert!(out.starts_with("-ERR Protocol error: "), "{out}");
}

#[test]
fn a_full_pipeline_waits() {
    let world = world_with(Options { max_client_pipeline: 2, ..Options::default() });
    let mut client = client_of(&world, 1, Face::Plain);
    let deferred = run(&mut client, &world, b"GET a\r\nPING\r\nGET c\r\n");
    assert_eq!((deferred.len(), client.pending(), client.unread()), (1, 2, 7));
    assert!(matches!(client.next(&world.options), Next::Full));
    client.fill(deferred[0].1, b"_\r\n");
    assert_eq!(run(&mut client, &world, b"").len(), 1);
    assert_eq!(output(&mut client), "$-1\r\n+PONG\r\n");
}

#[test]
fn unsent_replies_beyond_the_limit_wait() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    let place = run(&mut client, &world, b"GET a\r\n")[0].1;
    let value = vec![b'x'; REPLY_BYTES_MAX];
    let mut reply = format!("${}\r\n", value.len()).into_bytes();
    reply.extend_from_slice(&value);
    reply.extend_from_slice(b"\r\n");
    client.fill(place, &reply);
    client.feed(b"PING\r\n", world.now);
    assert!(matches!(client.next(&world.options), Next::Full));
    let mut out = Vec::new();
    client.take_output(&mut out);
    assert_eq!(ask(&mut client, &world, ""), "+PONG\r\n");
}

#[test]
fn wrong_arity_and_unknown_names_have_the_texts_of_redis() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    for (request, reply) in [
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("mset a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("client SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("Client foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n"),
        ("bar a \"b c\"", "-ERR unknown command 'bar', with args beginning with: 'a' 'b c' \r\n"),
    ] {
        assert_eq!(ask(&mut client, &world, request), reply);
    }
}

#[test]
fn random_bytes_never_panic() {
    let world = world();
    let words: [&[u8]; 12] =
        [b"*", b"$", b"\r\n", b"1", b"3", b"HELLO", b"CLIENT", b"SET", b"\"", b" ", b"-", b"\xff"];
    let mut state = 1_u64;
    for _ in 0..2_000 {
        let mut client = client(1, Face::Cluster);
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            run(&mut client, &world, words[(state >> 33) as usize % words.len()]);
        }
        let mut out = Vec::new();
        client.take_output(&mut out);
    }
}

#[test]
fn who_gets_long_replies_has_few_commands_open() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    let first = run(&mut client, &world, &b"GET k\r\n".repeat(100));
    assert_eq!(first.len(), 16, "nothing is known of the replies yet");
    for (_, place) in first {
        client.fill(place, b"_\r\n");
    }
    let others = run(&mut client, &world, b"");
    assert_eq!(others.len(), 84, "they are short");
    let long = [b"$1048576\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    for (_, place) in others {
        client.fill(place, &long);
    }
    output(&mut client);
    for _ in 0..3 {
        let one = run(&mut client, &world, &b"GET k\r\n".repeat(2));
        assert_eq!(one.len(), 1, "they are long");
        client.fill(one[0].1, &long);
        output(&mut client);
    }
}

#[test]
fn an_idle_client_holds_no_buffers() {
    let (world, mut client) = (world(), client(1, Face::Plain));
    let mut input = Vec::new();
    encode_command(&[b"ECHO", &vec![b'x'; 100_000]], &mut input);
    input.extend_from_slice(&b"GET k\r\nPING\r\n".repeat(5));
    let deferred = run(&mut client, &world, &input);
    let held = |client: &Client| client.buffer.capacity() + client.args.as_args().bytes().len();
    client.rest();
    assert!(held(&client) > 100_000, "it waits for replies, so it is not idle");
    for (_, place) in deferred {
        client.fill(place, b"_\r\n");
    }
    output(&mut client);
    client.rest();
    assert!(held(&client) < 100, "{}", held(&client));
    // Half a request is not given back.
    assert!(run(&mut client, &world, b"GET ").is_empty());
    client.rest();
    assert_eq!(run(&mut client, &world, b"k\r\n").len(), 1);
}
