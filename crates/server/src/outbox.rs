//! Bytes that have not left yet on one connection.
//!
//! Small pieces are joined, large ones are kept as they came; all leave by one vectored write.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Result, Write};

/// Pieces are joined up to this size, bytes.
const JOIN_BYTES: usize = 16 << 10;
/// The room for pieces that a queue keeps once it is empty.
const KEPT_PIECES: usize = 16;
/// Pieces given to one write.
const PIECES_PER_WRITE: usize = 64;

/// The queue of unsent bytes.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have left.
    sent: usize,
    unsent: usize,
}

impl Outbox {
    /// Bytes that have not left.
    pub(crate) fn len(&self) -> usize {
        self.unsent
    }

    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent == 0
    }

    /// Queues bytes behind all others.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.unsent += bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + bytes.len() <= JOIN_BYTES => last.extend_from_slice(&bytes),
            _ => self.pieces.push_back(bytes),
        }
    }

    /// Writes until everything has left or the socket takes no more; other errors are final.
    pub(crate) fn write_to(&mut self, socket: &mut impl Write) -> Result<()> {
        while self.unsent > 0 {
            match self.write_once(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_once(&self, socket: &mut impl Write) -> Result<usize> {
        if self.pieces.len() == 1 {
            return socket.write(&self.pieces[0][self.sent..]);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        let count = self.pieces.len().min(PIECES_PER_WRITE);
        for (place, piece) in slices.iter_mut().zip(&self.pieces) {
            *place = IoSlice::new(piece);
        }
        slices[0] = IoSlice::new(&self.pieces[0][self.sent..]);
        socket.write_vectored(&slices[..count])
    }

    fn advance(&mut self, count: usize) {
        self.unsent -= count;
        self.sent += count;
        while let Some(first) = self.pieces.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            self.pieces.pop_front();
        }
        if self.unsent == 0 && self.pieces.capacity() > KEPT_PIECES {
            self.pieces = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, at most `step` at a time, then no more.
    struct Narrow {
        got: Vec<u8>,
        room: usize,
        step: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            let count = bytes.len().min(self.step).min(self.room);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.got.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize> {
            let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&joined)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_leave_once_and_in_order_whatever_the_socket_takes() {
        for step in [1, 7, 1_000, 40_000, 1 << 20] {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            let mut socket = Narrow { got: Vec::new(), room: 0, step };
            for (number, size) in [1, 20_000, 3, 16_384, 0, 5, 50_000].into_iter().enumerate() {
                let piece = vec![number as u8; size];
                expected.extend_from_slice(&piece);
                outbox.push(piece);
                socket.room = size / 2;
                outbox.write_to(&mut socket).expect("a full socket is no error");
            }
            socket.room = usize::MAX;
            outbox.write_to(&mut socket).expect("there is room");
            assert!(outbox.is_empty());
            assert_eq!(socket.got, expected);
        }
    }

    #[test]
    fn many_pieces_need_several_writes() {
        let mut outbox = Outbox::default();
        for _ in 0..200 {
            outbox.push(vec![b'x'; JOIN_BYTES]);
        }
        let mut socket = Narrow { got: Vec::new(), room: usize::MAX, step: usize::MAX };
        outbox.write_to(&mut socket).expect("there is room");
        assert_eq!(socket.got.len(), 200 * JOIN_BYTES);
    }
}
