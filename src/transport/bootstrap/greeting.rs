//! Waiting for the first word of a script: what a login prints before it is passed over, up to a limit, and sudo's
//! prompt is answered.

use std::io::Cursor;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    base::{Fault, FaultKind, Secret},
    transport::{bootstrap::script::Plain, channel::Channel, unreachable},
};

/// What may come before the word: banners, profiles that print.
const NOISE_BYTES_MAX: usize = 64 * 1024;

/// What came of it.
pub(super) enum Greeted {
    /// The word was said; the stream stands just past it.
    Heard(Box<Channel>),
    /// The stream ended, or its line broke, without the word.
    Ended(Box<Channel>),
    /// It went wrong in a way that is clear already.
    Refused(Box<Fault>),
}

/// Waits for a word.
pub(super) struct Greeting {
    word: &'static [u8],
    password: Option<(Secret, Plain)>,
    /// How many prompts were answered.
    answered: usize,
    noise: Vec<u8>,
}

impl Greeting {
    /// Waits for `word`, and answers the prompt by the password.
    pub(super) fn new(word: &'static [u8], password: Option<(Secret, Plain)>) -> Self {
        Greeting { word, password, answered: 0, noise: Vec::new() }
    }

    /// Reads stdout up to and with the word.
    pub(super) async fn hear(&mut self, mut channel: Channel) -> Greeted {
        let mut buffer = [0u8; 4096];
        loop {
            tokio::select! {
                read = channel.stdout.read(&mut buffer) => match read {
                    Ok(count @ 1..) => self.noise.extend_from_slice(&buffer[..count]),
                    _ => return Greeted::Ended(Box::new(channel)),
                },
                () = channel.words.more(), if self.password.is_some() => {
                    if let Err(fault) = self.answer(&mut channel).await {
                        return Greeted::Refused(Box::new(fault));
                    }
                }
            }
            if let Some(at) = self.noise.windows(self.word.len()).position(|window| window == self.word) {
                let rest = self.noise.split_off(at + self.word.len());
                if !rest.is_empty() {
                    channel.stdout = Box::new(AsyncReadExt::chain(Cursor::new(rest), channel.stdout));
                }
                return Greeted::Heard(Box::new(channel));
            }
            if self.noise.len() > NOISE_BYTES_MAX {
                return Greeted::Refused(Box::new(noisy()));
            }
        }
    }

    /// Answers sudo's prompt: once, since a second one says that the password is wrong.
    async fn answer(&mut self, channel: &mut Channel) -> Result<(), Fault> {
        let Some((password, prompt)) = &self.password else { return Ok(()) };
        match (channel.words.text().matches(prompt.text()).count(), self.answered) {
            (0, _) | (1, 1) => Ok(()),
            (_, 0) => {
                self.answered = 1;
                let line = format!("{}\n", password.expose());
                // A sudo that no longer listens is told by its end.
                let _told_later = channel.stdin.write_all(line.as_bytes()).await;
                let _told_later = channel.stdin.flush().await;
                Ok(())
            }
            _ => Err(Fault::new(FaultKind::Policy, "sudo does not accept the password")
                .hint("look at ROLLBOOK_BECOME_PASSWORD and at `become_password` in the inventory")),
        }
    }
}

fn noisy() -> Fault {
    unreachable(format!("the target printed more than {} KiB before its agent could speak", NOISE_BYTES_MAX >> 10))
        .hint("make its shell profile silent for logins without a terminal")
}
