//! Every command of the node, with its exact replies in both protocols.

use flotilla_kv::command::{all, find};
use flotilla_resp::{Value, parse_value};

use super::*;

/// Asks in both protocols, each on a fresh connection.
fn both(face: Face, request: &str, resp2: &str, resp3: &str) {
    let world = world();
    for (protocol, expected) in [(2, resp2), (3, resp3)] {
        let reply = ask(&mut speaking(face, protocol), &world, request);
        assert_eq!(reply, expected, "{request} in protocol {protocol}");
    }
}

fn same(request: &str, reply: &str) {
    both(Face::Plain, request, reply, reply);
}

/// The text of a bulk string in RESP2, of a verbatim string in RESP3.
fn text_in_both(face: Face, request: &str, text: &str) {
    let resp2 = format!("${}\r\n{text}\r\n", text.len());
    let resp3 = format!("={}\r\ntxt:{text}\r\n", text.len() + 4);
    both(face, request, &resp2, &resp3);
}

#[test]
fn every_command_of_the_node_is_answered_once() {
    let world = world();
    let specs = all().flat_map(|spec| {
        let own = spec.subcommands.is_empty() || spec.arity == -1;
        own.then_some(spec).into_iter().chain(spec.subcommands)
    });
    for spec in specs.filter(|spec| spec.reach == Reach::Node) {
        for face in [Face::Plain, Face::Cluster] {
            for protocol in [2, 3] {
                let mut client = speaking(face, protocol);
                let name = spec.name.replace('|', " ");
                let given = name.split(' ').count();
                let more = (spec.arity.unsigned_abs() as usize).saturating_sub(given);
                let request = format!("{name}{}", " 1".repeat(more));
                let reply = ask(&mut client, &world, &request);
                let (_, consumed) = parse_value(reply.as_bytes())
                    .unwrap_or_else(|error| panic!("{request}: {error}: {reply}"))
                    .unwrap_or_else(|| panic!("{request} has no reply: {reply}"));
                assert_eq!(consumed, reply.len(), "{request} has one reply: {reply}");
                assert!(!reply.starts_with("-ERR unknown"), "{request}: {reply}");
            }
        }
    }
}

#[test]
fn ping_echo_time_and_the_words_that_change_nothing() {
    same("PING", "+PONG\r\n");
    same("ping hello", "$5\r\nhello\r\n");
    same("ECHO hello", "$5\r\nhello\r\n");
    same("TIME", "*2\r\n$10\r\n1700000000\r\n$6\r\n123000\r\n");
    same("READONLY", "+OK\r\n");
    same("READWRITE", "+OK\r\n");
    same("ASKING", "+OK\r\n");
    same("QUIT", "+OK\r\n");
}

#[test]
fn there_is_one_database() {
    same("SELECT 0", "+OK\r\n");
    same("SELECT 1", "-ERR DB index is out of range\r\n");
    same("SELECT -1", "-ERR DB index is out of range\r\n");
    for bad in ["x", "+0", "00", "1.0"] {
        same(&format!("SELECT {bad}"), "-ERR value is not an integer or out of range\r\n");
    }
    let error = "-ERR SELECT is not allowed in cluster mode\r\n";
    both(Face::Cluster, "SELECT 1", error, error);
    both(Face::Cluster, "SELECT 0", "+OK\r\n", "+OK\r\n");
}

#[test]
fn hello_says_who_we_are() {
    let map = |header: &str, proto: i64, mode: &str| {
        format!(
            "{header}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n\
             $5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\r\n${}\r\n{mode}\r\n\
             $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
            mode.len()
        )
    };
    let standalone = (map("*14", 2, "standalone"), map("%7", 3, "standalone"));
    both(Face::Plain, "HELLO", &standalone.0, &standalone.1);
    both(Face::Cluster, "HELLO", &map("*14", 2, "cluster"), &map("%7", 3, "cluster"));
    same("HELLO 3 SETNAME app", &standalone.1);
    same("HELLO 2", &standalone.0);
}

#[test]
fn a_wrong_hello_changes_nothing() {
    let none = "-ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?\r\n";
    let bad_name = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
    let world = world();
    for (request, reply) in [
        ("HELLO 1", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 3 SETNAME a AUTH default secret", none),
        ("HELLO 3 SETNAME \"a b\"", bad_name),
    ] {
        let mut client = client(1, Face::Plain);
        assert_eq!(ask(&mut client, &world, request), reply);
        assert_eq!(client.protocol().number(), 2);
        assert_eq!(client.name(), b"");
    }
}

#[test]
fn client_names_and_switches() {
    let (world, mut client) = (world(), speaking(Face::Plain, 2));
    let bad = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
    for (request, reply) in [
        ("CLIENT ID", ":5\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME app", "+OK\r\n"),
        ("CLIENT GETNAME", "$3\r\napp\r\n"),
        ("CLIENT SETNAME \"a b\"", bad),
        ("CLIENT GETNAME", "$3\r\napp\r\n"),
        ("CLIENT SETNAME \"\"", "+OK\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETINFO LIB-NAME lib", "+OK\r\n"),
        ("CLIENT SETINFO lib-ver 1.0", "+OK\r\n"),
        (
            "CLIENT SETINFO LIB-VER \"1 0\"",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n",
        ),
        ("CLIENT SETINFO foo bar", "-ERR Unrecognized option 'foo'\r\n"),
        ("CLIENT NO-EVICT on", "+OK\r\n"),
        ("CLIENT NO-TOUCH OFF", "+OK\r\n"),
        ("CLIENT NO-TOUCH maybe", "-ERR syntax error\r\n"),
        ("CLIENT TRACKING on", "-ERR unknown subcommand 'TRACKING'. Try CLIENT HELP.\r\n"),
    ] {
        assert_eq!(ask(&mut client, &world, request), reply, "{request}");
    }
    both(Face::Plain, "CLIENT GETNAME", "$-1\r\n", "_\r\n");
}

#[test]
fn reset_forgets_all_but_the_library() {
    let (world, mut client) = (world(), speaking(Face::Plain, 3));
    ask(&mut client, &world, "CLIENT SETNAME app\r\nCLIENT SETINFO LIB-NAME lib\r\nREADONLY");
    assert_eq!(ask(&mut client, &world, "RESET"), "+RESET\r\n");
    assert_eq!(ask(&mut client, &world, "CLIENT GETNAME"), "$-1\r\n");
    let info = ask(&mut client, &world, "CLIENT INFO");
    assert!(info.contains(" flags=N ") && info.contains(" resp=2 lib-name=lib "), "{info}");
}

#[test]
fn client_list_is_a_line_per_client_by_id() {
    let mut world = world();
    let mut other = client(2, Face::Cluster);
    run(&mut other, &world, b"CLIENT SETNAME worker\r\nREADONLY\r\nGET a\r\n");
    world.others = vec![client(9, Face::Plain), other];
    let mut client = client(5, Face::Plain);
    let list = ask(&mut client, &world, "CLIENT LIST");
    let lines: Vec<&str> = list.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with(
            "id=2 addr=10.9.9.9:40002 laddr=10.0.0.1:7001 name=worker age=65 idle=0 flags=r db=0 "
        ),
        "{list}"
    );
    assert!(lines[0].contains(" oll=1 ") && lines[0].contains(" cmd=get "), "{list}");
    assert!(lines[1].starts_with("id=5 ") && lines[1].contains(" cmd=client|list "), "{list}");
    assert!(lines[2].starts_with("id=9 ") && lines[2].contains(" idle=65 "), "{list}");
    assert!(lines[2].contains(" cmd=NULL user=default redir=-1 resp=2 lib-name= lib-ver="));

    let only = ask(&mut client, &world, "CLIENT LIST ID 9 2 77");
    assert!(only.contains("id=9 ") && only.contains("id=2 ") && !only.contains("id=5 "), "{only}");
    for (request, reply) in [
        ("CLIENT LIST TYPE pubsub", "$0\r\n\r\n"),
        ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID\r\n"),
        ("CLIENT LIST ID 0", "-ERR Invalid client ID\r\n"),
        ("CLIENT LIST ID", "-ERR syntax error\r\n"),
        ("CLIENT LIST FOO x", "-ERR syntax error\r\n"),
    ] {
        assert_eq!(ask(&mut client, &world, request), reply, "{request}");
    }
    text_in_both(Face::Plain, "CLIENT LIST TYPE master", "");
}

#[test]
fn config_get_matches_patterns() {
    let pair = "$9\r\nmaxmemory\r\n$1\r\n0\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n";
    let save = "$4\r\nsave\r\n$0\r\n\r\n";
    let request = "CONFIG GET MAXMEM* sav?";
    both(Face::Plain, request, &format!("*6\r\n{pair}{save}"), &format!("%3\r\n{pair}{save}"));
    both(Face::Plain, "CONFIG GET nosuch", "*0\r\n", "%0\r\n");
    both(
        Face::Plain,
        "config get proto-max-bulk-len",
        "*2\r\n$18\r\nproto-max-bulk-len\r\n$8\r\n16777216\r\n",
        "%1\r\n$18\r\nproto-max-bulk-len\r\n$8\r\n16777216\r\n",
    );
    both(
        Face::Cluster,
        "CONFIG GET cluster-enabled",
        "*2\r\n$15\r\ncluster-enabled\r\n$3\r\nyes\r\n",
        "%1\r\n$15\r\ncluster-enabled\r\n$3\r\nyes\r\n",
    );
}

#[test]
fn command_describes_the_table() {
    let count = all().count();
    same("COMMAND COUNT", &format!(":{count}\r\n"));
    same("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    same("COMMAND GETKEYS PING", "-ERR The command has no key arguments\r\n");
    for protocol in [2, 3] {
        let reply = ask(&mut speaking(Face::Cluster, protocol), &world(), "COMMAND");
        let (value, _) = parse_value(reply.as_bytes()).expect("RESP").expect("whole");
        let Value::Array(commands) = value else { panic!("{value:?}") };
        assert_eq!(commands.len(), count);
        for command in &commands {
            let Value::Array(fields) = command else { panic!("{command:?}") };
            assert_eq!(fields.len(), 10, "go-redis takes 6, 7 or 10: {command:?}");
        }
    }
    assert!(find(b"command").is_some());
}

#[test]
fn help_lists_the_subcommands() {
    for container in ["CLIENT", "CONFIG", "COMMAND", "CLUSTER"] {
        let reply = ask(&mut client(1, Face::Plain), &world(), &format!("{container} HELP"));
        let title = format!("+{container} <subcommand> [<arg> [value] [opt] ...]. ");
        assert!(reply.contains(&title) && reply.contains("+HELP"), "{reply}");
    }
}

#[test]
fn info_has_redis_sections() {
    text_in_both(Face::Plain, "INFO cluster", "# Cluster\r\ncluster_enabled:0\r\n");
    text_in_both(Face::Cluster, "INFO CLUSTER", "# Cluster\r\ncluster_enabled:1\r\n");
    text_in_both(Face::Plain, "INFO nosuch", "");
    text_in_both(
        Face::Plain,
        "INFO persistence keyspace",
        "# Persistence\r\nloading:0\r\nasync_loading:0\r\naof_enabled:1\r\n\
         aof_last_write_status:ok\r\ndisk_full:no\r\ndurable:yes\r\n\r\n\
         # Keyspace\r\ndb0:keys=11\r\n",
    );
    text_in_both(
        Face::Plain,
        "INFO server",
        &format!(
            "# Server\r\nredis_version:7.4.0\r\nflotilla_version:{}\r\nredis_mode:standalone\r\n\
             arch_bits:{}\r\nos:{}\r\nnode_name:{}\r\ntcp_port:7001\r\n\
             server_time_usec:1700000000123000\r\nuptime_in_seconds:90\r\nuptime_in_days:0\r\n",
            env!("CARGO_PKG_VERSION"),
            usize::BITS,
            std::env::consts::OS,
            "1".repeat(40),
        ),
    );
    text_in_both(
        Face::Cluster,
        "INFO replication memory stats clients",
        "# Clients\r\nconnected_clients:3\r\n\r\n\
         # Memory\r\nused_memory:110\r\nused_memory_dataset:110\r\nmaxmemory:0\r\n\
         maxmemory_policy:noeviction\r\n\r\n\
         # Stats\r\ntotal_commands_processed:12\r\n\r\n\
         # Replication\r\nrole:master\r\nconnected_slaves:0\r\n\
         master_failover_state:no-failover\r\n\
         master_replid:00112233445566778899aabbccddeeff00000000\r\nmaster_repl_offset:50\r\n",
    );
    let all = ask(&mut client(1, Face::Cluster), &world(), "INFO");
    for line in ["redis_mode:cluster\r\n", "tcp_port:9001\r\n", "# Raft\r\n", "loading:0\r\n"] {
        assert!(all.contains(line), "{line} in {all}");
    }
    assert_eq!(all, ask(&mut client(1, Face::Cluster), &world(), "INFO everything"));
}

#[test]
fn info_raft_has_a_line_per_shard() {
    text_in_both(
        Face::Plain,
        "INFO raft",
        "# Raft\r\ncluster_id:00112233445566778899aabbccddeeff\r\nmap_epoch:7\r\nnode:1\r\n\
         incarnation:2\r\ndisk:0\r\nrepaired_entries:0\r\nready:yes\r\nwaiting_for:\r\n\
         shard0:id=7,role=follower,term=4,commit=3,applied=3,last=4,durable=3,snapshot=0,\
         damaged=0,keys=0,bytes=0,leader=2\r\n\
         shard1:id=7,role=leader,term=4,commit=20,applied=20,last=21,durable=20,snapshot=0,\
         damaged=0,keys=5,bytes=50,lag2=0,lag3=1,leader=1\r\n\
         shard2:role=none,term=4,leader=2\r\n\
         shard3:id=7,role=leader,term=4,commit=30,applied=30,last=31,durable=30,snapshot=0,\
         damaged=0,keys=6,bytes=60,lag2=0,lag3=1,leader=1\r\n",
    );
}

#[test]
fn the_keyspace_on_the_cluster_port_is_of_the_shards_led() {
    let mut world = world();
    world.status.replicas[2].role = "follower".to_owned();
    let info = ask(&mut client(1, Face::Cluster), &world, "INFO keyspace");
    assert!(info.contains("db0:keys=5\r\n"), "{info}");
    let info = ask(&mut client(1, Face::Plain), &world, "INFO keyspace");
    assert!(info.contains("db0:keys=11\r\n"), "{info}");
}

#[test]
fn flotilla_status_is_the_status_as_json() {
    let world = world();
    let reply = ask(&mut client(1, Face::Plain), &world, "FLOTILLA STATUS");
    let (value, _) = parse_value(reply.as_bytes()).expect("RESP").expect("whole");
    let Value::Bulk(json) = value else { panic!("{value:?}") };
    let status: Status = serde_json::from_slice(&json).expect("JSON of a status");
    assert_eq!(status, world.status);
}
