//! Frames: `length u32 LE | sequence u32 LE | postcard payload`. No I/O here: both sides feed what they read and
//! write what they are given.

use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

/// The longest payload, checked before anything is allocated for it.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

const HEADER_BYTES: usize = 8;

/// How long the payload of a message is.
pub fn payload_bytes(message: &impl Serialize) -> usize {
    postcard::experimental::serialized_size(message).expect("messages are plain data")
}

/// What the other side sent is no frame of ours. The pipe is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// It claims more than [`PAYLOAD_BYTES_MAX`] bytes.
    TooLong(u32),
    /// Frames were lost, doubled or reordered.
    OutOfOrder {
        /// The number that was due.
        due: u32,
        /// The number that came.
        came: u32,
    },
    /// The payload is no message.
    NotAMessage,
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameFault::TooLong(bytes) => {
                write!(f, "a frame claims {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are allowed")
            }
            FrameFault::OutOfOrder { due, came } => write!(f, "frame {came} came where frame {due} was due"),
            FrameFault::NotAMessage => f.write_str("a frame holds no message of this protocol"),
        }
    }
}

impl std::error::Error for FrameFault {}

/// Makes frames of messages.
#[derive(Debug)]
pub struct FrameWriter<M> {
    sequence: u32,
    message: PhantomData<fn(M)>,
}

impl<M> Default for FrameWriter<M> {
    fn default() -> Self {
        FrameWriter { sequence: 0, message: PhantomData }
    }
}

impl<M: Serialize> FrameWriter<M> {
    /// Appends the frame of `message` to `out`.
    ///
    /// # Panics
    /// When the message is longer than [`PAYLOAD_BYTES_MAX`]: its maker must have cut it.
    pub fn push(&mut self, message: &M, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        *out = postcard::to_extend(message, std::mem::take(out)).expect("messages are plain data");
        let length = out.len() - start - HEADER_BYTES;
        assert!(length <= PAYLOAD_BYTES_MAX, "a message of {length} bytes");
        out[start..start + 4].copy_from_slice(&u32::try_from(length).expect("checked above").to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&self.sequence.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// Finds messages in a stream of bytes. Holds at most one frame and one read beyond it.
#[derive(Debug)]
pub struct FrameReader<M> {
    sequence: u32,
    buffer: Vec<u8>,
    taken: usize,
    message: PhantomData<fn() -> M>,
}

impl<M> Default for FrameReader<M> {
    fn default() -> Self {
        FrameReader { sequence: 0, buffer: Vec::new(), taken: 0, message: PhantomData }
    }
}

impl<M: DeserializeOwned> FrameReader<M> {
    /// Takes in what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` until more is fed.
    pub fn next_message(&mut self) -> Result<Option<M>, FrameFault> {
        let rest = &self.buffer[self.taken..];
        let Some((header, rest)) = rest.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (length, came) = (word(0), word(4));
        if length as usize > PAYLOAD_BYTES_MAX {
            return Err(FrameFault::TooLong(length));
        }
        if came != self.sequence {
            return Err(FrameFault::OutOfOrder { due: self.sequence, came });
        }
        let Some(payload) = rest.get(..length as usize) else { return Ok(None) };
        let message = match postcard::take_from_bytes(payload) {
            Ok((message, [])) => message,
            _ => return Err(FrameFault::NotAMessage),
        };
        self.taken += HEADER_BYTES + length as usize;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(Some(message))
    }

    /// Whether bytes of an unfinished frame are held.
    pub fn is_mid_frame(&self) -> bool {
        self.taken < self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(messages: &[&str]) -> Vec<u8> {
        let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
        messages.iter().for_each(|text| writer.push(&(*text).to_owned(), &mut bytes));
        bytes
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<String>, FrameFault> {
        let (mut reader, mut found) = (FrameReader::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.feed(piece);
            while let Some(message) = reader.next_message()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let bytes = frames(&["", "one", "two and more"]);
        (1..=bytes.len()).for_each(|piece| {
            assert_eq!(read(&bytes, piece).unwrap(), ["", "one", "two and more"], "pieces of {piece}");
        });
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(read(&[0xff; 8], 8), Err(FrameFault::TooLong(u32::MAX)));
        let twice = [frames(&["x"]), frames(&["x"])].concat();
        assert_eq!(read(&twice, 64), Err(FrameFault::OutOfOrder { due: 1, came: 0 }));
        let mut long = frames(&["x"]);
        long[8] = 77;
        assert_eq!(read(&long, 64), Err(FrameFault::NotAMessage));
    }
}
