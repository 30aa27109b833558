//! The floor: for each host one libssh2 connection, one channel, and one command that reads its input. No host keys are
//! looked up, nothing is parsed, nothing is recorded; what does more cannot well be faster.
//!
//! `floor-ssh2 KEY PORT THREADS FOLDER COMMAND <hosts`: FOLDER holds a file for each host, the command's input. With `-`
//! for the command it only logs in. `benches/run` starts it.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a measurement that cannot go on stops, and says why")]

use std::{
    error::Error,
    fs, io,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::ExitCode,
    sync::Mutex,
    thread,
};

use ssh2::Session;

struct Floor {
    key: PathBuf,
    port: u16,
    threads: usize,
    folder: PathBuf,
    command: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [key, port, threads, folder, command] = &arguments[..] else {
        eprintln!("floor-ssh2 is started by benches/run");
        return ExitCode::SUCCESS;
    };
    let floor = Floor {
        key: key.into(),
        port: port.parse().unwrap(),
        threads: threads.parse().unwrap(),
        folder: folder.into(),
        command: command.clone(),
    };
    let hosts: Vec<String> = io::stdin().lines().map(Result::unwrap).collect();
    let failed = floor.all(hosts);
    failed.iter().for_each(|why| eprintln!("{why}"));
    ExitCode::from(u8::from(!failed.is_empty()))
}

impl Floor {
    /// Serves each host once, so many at a time; what failed.
    fn all(&self, hosts: Vec<String>) -> Vec<String> {
        let left = Mutex::new(hosts.into_iter());
        let failed = Mutex::new(Vec::new());
        let next = || left.lock().unwrap().next();
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    while let Some(host) = next() {
                        if let Err(error) = self.one(&host) {
                            failed.lock().unwrap().push(format!("{host}: {error}"));
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap()
    }

    fn one(&self, host: &str) -> Result<(), Box<dyn Error>> {
        let input = fs::read(self.folder.join(host))?;
        let socket = TcpStream::connect((host, self.port))?;
        socket.set_nodelay(true)?;
        let mut session = Session::new()?;
        session.set_tcp_stream(socket);
        session.handshake()?;
        session.userauth_pubkey_file("root", None, &self.key, None)?;
        if self.command == "-" {
            return Ok(session.disconnect(None, "done", None)?);
        }
        let mut channel = session.channel_session()?;
        channel.exec(&self.command)?;
        channel.write_all(&input)?;
        channel.send_eof()?;
        channel.read_to_end(&mut Vec::new())?;
        channel.wait_close()?;
        match channel.exit_status()? {
            0 => Ok(()),
            code => Err(format!("exit code {code}").into()),
        }
    }
}
