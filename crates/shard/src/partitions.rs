//! The argument `<partitions>` of `flotilla run`: a list of lists of `'ip:port'`.
//!
//! The quoting is Python's or JSON's, white space and line breaks may stand anywhere, and a comma
//! may follow the last element of a list. Each inner list names one shard's replicas. Addresses
//! come out in one spelling (`[0:0:0:0:0:0:0:1]:05001` as `[::1]:5001`), so that equal lists are
//! equal texts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// How the argument looks when it is right; errors end with it.
const RIGHT: &str = "the right form is [['127.0.0.1:5001', '127.0.0.1:5002'], ['127.0.0.1:5003']]";

/// The addresses in `text`, a list per shard.
///
/// ```
/// use flotilla_shard::partitions::parse;
///
/// let text = "[['127.0.0.1:5001', '127.0.0.1:5002'],\n ['127.0.0.1:5003'],]";
/// let lists = parse(text).expect("valid");
/// assert_eq!(lists.len(), 2);
/// let error = parse("[['127.0.0.1']]").expect_err("there is no port");
/// assert!(error.to_string().starts_with("character 3, list 0: '127.0.0.1' has no port"));
/// ```
pub fn parse(text: &str) -> Result<Vec<Vec<String>>, PartitionsError> {
    let mut reader = Reader { text, position: 0 };
    let mut lists = Vec::new();
    let mut seen = BTreeMap::new();
    reader.expect('[', "'[', which begins the list of lists")?;
    while !reader.skip_if(']') {
        let list = lists.len();
        let addresses = reader.inner_list(list, &mut seen)?;
        lists.push(addresses);
        reader.comma_unless_closed()?;
    }
    if let Some(found) = reader.peek() {
        return Err(reader.unexpected(Some(found), "nothing behind the last ']'"));
    }
    if lists.is_empty() {
        return Err(PartitionsError::Empty);
    }
    Ok(lists)
}

/// The position of the list that node `ip:port` is in, which must be `index` if that is given.
pub fn place(
    lists: &[Vec<String>],
    ip: &str,
    port: u16,
    index: Option<usize>,
) -> Result<usize, PartitionsError> {
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        return Err(PartitionsError::NotAnIp { ip: ip.to_owned() });
    };
    let address = SocketAddr::new(parsed, port).to_string();
    let Some(list) = lists.iter().position(|list| list.contains(&address)) else {
        return Err(PartitionsError::InNoList { address, lists: describe(lists) });
    };
    match index {
        Some(index) if index >= lists.len() => {
            let known = match lists.len() {
                1 => "there is one list, 0".to_owned(),
                count => format!("there are {count} lists, 0 to {}", count - 1),
            };
            Err(PartitionsError::NoSuchList { index, known, address, list })
        }
        Some(index) if index != list => Err(PartitionsError::OtherList { index, address, list }),
        _ => Ok(list),
    }
}

/// What is wrong with the lists, or with a node's place in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionsError {
    /// The text is not a list of lists of strings.
    #[error("character {at}: found {found}, expected {expected}; {RIGHT}")]
    Syntax {
        /// Which character of the text, counted from 1.
        at: usize,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// There is no inner list.
    #[error("the list of partitions is empty: it needs at least one list of addresses; {RIGHT}")]
    Empty,
    /// An inner list has no address.
    #[error(
        "character {at}: list {list} is empty: a partition needs at least one address; {RIGHT}"
    )]
    EmptyList {
        /// Which character of the text, counted from 1.
        at: usize,
        /// Which list, counted from 0.
        list: usize,
    },
    /// A string is not an address.
    #[error(
        "character {at}, list {list}: '{text}' {reason}; an address is ip:port, like \
         127.0.0.1:5001 or [::1]:5001"
    )]
    Address {
        /// Which character of the text, counted from 1.
        at: usize,
        /// Which list, counted from 0.
        list: usize,
        /// The string.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An address stands twice in one list.
    #[error("character {at}: {address} is in list {list} twice; a node has one replica of a shard")]
    TwiceInList {
        /// Which character of the text, counted from 1.
        at: usize,
        /// The address.
        address: String,
        /// Which list, counted from 0.
        list: usize,
    },
    /// An address stands in two lists.
    #[error(
        "character {at}: {address} is in list {first} and in list {second}; a node is in one list"
    )]
    InTwoLists {
        /// Which character of the text, counted from 1.
        at: usize,
        /// The address.
        address: String,
        /// The first list it is in, counted from 0.
        first: usize,
        /// The second.
        second: usize,
    },
    /// The node's own address is not an IP address.
    #[error("'{ip}' is not an IP address, like 127.0.0.1 or ::1")]
    NotAnIp {
        /// What was given.
        ip: String,
    },
    /// The node is not listed.
    #[error("{address} is in none of the lists: {lists}")]
    InNoList {
        /// The node's address.
        address: String,
        /// What is in the lists.
        lists: String,
    },
    /// The index is above the last list.
    #[error("index {index}: {known}; {address} is in list {list}")]
    NoSuchList {
        /// The index given.
        index: usize,
        /// Which lists there are.
        known: String,
        /// The node's address.
        address: String,
        /// The list it is in.
        list: usize,
    },
    /// The node is in another list than the index says.
    #[error("index {index}: {address} is in list {list}, not in list {index}")]
    OtherList {
        /// The index given.
        index: usize,
        /// The node's address.
        address: String,
        /// The list it is in.
        list: usize,
    },
}

fn describe(lists: &[Vec<String>]) -> String {
    let list =
        |(number, list): (usize, &Vec<String>)| format!("list {number} has {}", list.join(", "));
    lists.iter().enumerate().map(list).collect::<Vec<_>>().join("; ")
}

/// Where the reading of the text is.
struct Reader<'a> {
    text: &'a str,
    /// In bytes, always between two characters.
    position: usize,
}

impl Reader<'_> {
    /// Reads inner list number `list`; `seen` has the list of every address so far.
    fn inner_list(
        &mut self,
        list: usize,
        seen: &mut BTreeMap<String, usize>,
    ) -> Result<Vec<String>, PartitionsError> {
        self.expect('[', "'[', since each partition is a list of its own")?;
        let start = self.at();
        let mut addresses = Vec::new();
        while !self.skip_if(']') {
            self.peek();
            let at = self.at();
            let text = self.string()?;
            let address = canonical(text.trim()).map_err(|reason| PartitionsError::Address {
                at,
                list,
                text,
                reason,
            })?;
            match seen.insert(address.clone(), list) {
                Some(first) if first == list => {
                    return Err(PartitionsError::TwiceInList { at, address, list });
                }
                Some(first) => {
                    return Err(PartitionsError::InTwoLists { at, address, first, second: list });
                }
                None => addresses.push(address),
            }
            self.comma_unless_closed()?;
        }
        if addresses.is_empty() {
            return Err(PartitionsError::EmptyList { at: start - 1, list });
        }
        Ok(addresses)
    }

    /// Reads a string in single or double quotes.
    fn string(&mut self) -> Result<String, PartitionsError> {
        const EXPECTED: &str = "an address in quotes (put \" around the whole argument, so that \
                                the shell keeps the ' in it)";
        let found = self.peek();
        let Some(quote @ ('\'' | '"')) = found else {
            return Err(self.unexpected(found, EXPECTED));
        };
        let start = self.position + 1;
        let Some(length) = self.text[start..].find(quote) else {
            self.position = self.text.len();
            return Err(self.unexpected(None, "a closing quote"));
        };
        self.position = start + length + 1;
        Ok(self.text[start..start + length].to_owned())
    }

    /// Takes the comma between two elements; none is needed before a closing bracket.
    fn comma_unless_closed(&mut self) -> Result<(), PartitionsError> {
        match self.peek() {
            Some(']') => Ok(()),
            _ => self.expect(',', "',' or ']'"),
        }
    }

    fn expect(&mut self, wanted: char, name: &'static str) -> Result<(), PartitionsError> {
        if self.skip_if(wanted) {
            return Ok(());
        }
        let found = self.peek();
        Err(self.unexpected(found, name))
    }

    fn skip_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.position += wanted.len_utf8();
        }
        found
    }

    /// The next character that is not white space; the reading stops before it.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.position..];
        self.position += rest.len() - rest.trim_start().len();
        rest.trim_start().chars().next()
    }

    /// Which character comes next, counted from 1.
    fn at(&self) -> usize {
        self.text[..self.position].chars().count() + 1
    }

    fn unexpected(&self, found: Option<char>, expected: &'static str) -> PartitionsError {
        let found = found.map_or_else(|| "the end".to_owned(), |found| format!("'{found}'"));
        PartitionsError::Syntax { at: self.at(), found, expected }
    }
}

/// The one spelling of an address, or what is wrong with it.
fn canonical(text: &str) -> Result<String, &'static str> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("has port 0, and a port is 1 to 65535"),
            _ => Ok(address.to_string()),
        };
    }
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
        return Err("has no port");
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err("is an IPv6 address without brackets and port");
    }
    let Some((ip, port)) = text.rsplit_once(':') else { return Err("has no port") };
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if ip.parse::<IpAddr>().is_err() {
        return Err("does not begin with an IP address");
    }
    if port.parse::<u16>().is_err() {
        return Err("has no port from 1 to 65535");
    }
    Err("has no brackets around its IPv6 address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn pythons_and_jsons_spelling_are_read() {
        let expected = [vec!["127.0.0.1:5001", "127.0.0.1:5002"], vec!["[::1]:5003"]];
        for text in [
            "[['127.0.0.1:5001','127.0.0.1:5002'],['[::1]:5003']]",
            r#"[["127.0.0.1:5001", "127.0.0.1:5002"], ["[::1]:5003"]]"#,
            " [\n [ '127.0.0.1:5001' ,\t\"127.0.0.1:5002\",\r\n],\n ['[::1]:5003',], ]\n",
            "[['127.0.0.1:05001 ',' 127.0.0.1:5002'],['[0:0:0:0:0:0:0:1]:5003']]",
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
    }

    #[test]
    fn syntax_errors_name_the_place_and_what_is_right() {
        let right = format!("; {RIGHT}");
        let cases = [
            ("", "character 1: found the end, expected '[', which begins the list of lists"),
            ("127.0.0.1", "character 1: found '1', expected '[', which begins the list of lists"),
            (
                "['127.0.0.1:1']",
                "character 2: found ''', expected '[', since each partition is a list of its own",
            ),
            ("[['127.0.0.1:1' '127.0.0.1:2']]", "character 17: found ''', expected ',' or ']'"),
            ("[['127.0.0.1:1']", "character 17: found the end, expected ',' or ']'"),
            ("[['127.0.0.1:1]]", "character 17: found the end, expected a closing quote"),
            (
                "[['127.0.0.1:1']] x",
                "character 19: found 'x', expected nothing behind the last ']'",
            ),
            (
                "[[,]]",
                "character 3: found ',', expected an address in quotes (put \" around the whole \
                 argument, so that the shell keeps the ' in it)",
            ),
            (
                "[[é]]",
                "character 3: found 'é', expected an address in quotes (put \" around the whole \
                 argument, so that the shell keeps the ' in it)",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(refusal(text), error.to_owned() + &right, "{text}");
        }
        let empty = "the list of partitions is empty: it needs at least one list of addresses";
        assert_eq!(refusal("[ ]"), empty.to_owned() + &right);
        let empty = "character 20: list 1 is empty: a partition needs at least one address";
        assert_eq!(refusal("[['127.0.0.1:1'],  [ ]]"), empty.to_owned() + &right);
    }

    #[test]
    fn malformed_addresses_are_named() {
        let cases = [
            ("127.0.0.1", "has no port"),
            ("", "has no port"),
            ("127.0.0.1:", "has no port from 1 to 65535"),
            ("127.0.0.1:65536", "has no port from 1 to 65535"),
            ("127.0.0.1:0", "has port 0, and a port is 1 to 65535"),
            ("127.0.0.1:x", "has no port from 1 to 65535"),
            ("127.0.0.256:1", "does not begin with an IP address"),
            ("localhost:5001", "does not begin with an IP address"),
            ("::1", "is an IPv6 address without brackets and port"),
            ("[::1]", "does not begin with an IP address"),
            (":5001", "does not begin with an IP address"),
        ];
        for (address, reason) in cases {
            let error = refusal(&format!("[['127.0.0.1:1', '{address}']]"));
            let expected = format!(
                "character 18, list 0: '{address}' {reason}; an address is ip:port, like \
                 127.0.0.1:5001 or [::1]:5001"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn an_address_stands_once() {
        assert_eq!(
            refusal("[['127.0.0.1:1'],['127.0.0.1:2','127.0.0.1:02']]"),
            "character 33: 127.0.0.1:2 is in list 1 twice; a node has one replica of a shard"
        );
        assert_eq!(
            refusal("[['127.0.0.1:1'],['127.0.0.1:2','127.0.0.1:1']]"),
            "character 33: 127.0.0.1:1 is in list 0 and in list 1; a node is in one list"
        );
    }

    #[test]
    fn a_nodes_place_is_found_or_the_right_one_named() {
        let one = parse("[['127.0.0.1:5001','127.0.0.1:5002']]").expect("valid");
        let two = parse("[['127.0.0.1:5001'],['127.0.0.1:5002','[::1]:5003']]").expect("valid");
        assert_eq!(place(&one, "127.0.0.1", 5002, None), Ok(0));
        assert_eq!(place(&two, "127.0.0.1", 5002, Some(1)), Ok(1));
        assert_eq!(place(&two, "::1", 5003, None), Ok(1));
        let refusal = |lists: &[Vec<String>], ip: &str, port, index| {
            place(lists, ip, port, index).expect_err("refused").to_string()
        };
        assert_eq!(
            refusal(&one, "127.0.0.1", 5002, Some(1)),
            "index 1: there is one list, 0; 127.0.0.1:5002 is in list 0"
        );
        assert_eq!(
            refusal(&two, "127.0.0.1", 5002, Some(7)),
            "index 7: there are 2 lists, 0 to 1; 127.0.0.1:5002 is in list 1"
        );
        assert_eq!(
            refusal(&two, "127.0.0.1", 5002, Some(0)),
            "index 0: 127.0.0.1:5002 is in list 1, not in list 0"
        );
        assert_eq!(
            refusal(&two, "127.0.0.1", 5009, Some(7)),
            "127.0.0.1:5009 is in none of the lists: list 0 has 127.0.0.1:5001; list 1 has \
             127.0.0.1:5002, [::1]:5003"
        );
        assert_eq!(
            refusal(&two, "localhost", 5001, None),
            "'localhost' is not an IP address, like 127.0.0.1 or ::1"
        );
    }
}
