//! Answers of web servers as they come over the wire: head, then a body of one of three forms (RFC 9112).

use std::io::{self, BufRead, Read};

use super::Answer;

/// Bytes of a head at most.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of a body that are looked at.
pub(super) const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Reads an answer. The rest of a long body is left unread.
pub(super) fn read(mut from: impl BufRead, head_only: bool) -> io::Result<Answer> {
    let (status, form) = loop {
        let (status, form) = head(&mut from)?;
        // 1xx are interim answers; the real one follows.
        if !(100..200).contains(&status) || status == 101 {
            break (status, form);
        }
    };
    let mut body = Vec::new();
    if !head_only && !matches!(status, 101 | 204 | 304) {
        match form {
            Form::Length(bytes) => from.take(bytes.min(BODY_BYTES_MAX)).read_to_end(&mut body).map(drop)?,
            Form::ToTheEnd => from.take(BODY_BYTES_MAX).read_to_end(&mut body).map(drop)?,
            Form::Chunked => chunks(from, &mut body)?,
        }
        if let Form::Length(bytes) = form
            && (body.len() as u64) < bytes.min(BODY_BYTES_MAX)
        {
            return Err(broken("the answer ends before its announced length"));
        }
    }
    Ok(Answer { status, body })
}

/// How the end of a body is found.
enum Form {
    Length(u64),
    Chunked,
    ToTheEnd,
}

fn head(from: &mut impl BufRead) -> io::Result<(u16, Form)> {
    let mut from = from.take(HEAD_BYTES_MAX);
    let first = line(&mut from)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status = status.filter(|code| (100..=599).contains(code)).ok_or_else(|| broken("the answer is not HTTP/1"))?;
    let mut form = Form::ToTheEnd;
    loop {
        let text = line(&mut from)?;
        if text.is_empty() {
            return Ok((status, form));
        }
        let Some((name, value)) = text.split_once(':') else { continue };
        let value = value.trim().to_ascii_lowercase();
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" if value.ends_with("chunked") => form = Form::Chunked,
            "content-length" if !matches!(form, Form::Chunked) => {
                form = Form::Length(value.parse().map_err(|_| broken("the answer's length is no number"))?);
            }
            _ => {}
        }
    }
}

/// A line without its ending. The caller bounds how much is read.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(broken("the answer ends in its head, or its head is too long"));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn chunks(mut from: impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let header = line(&mut (&mut from).take(4096))?;
        let size = header.split(';').next().unwrap_or("").trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| broken("a chunk of the answer has no length"))?;
        let room = BODY_BYTES_MAX - body.len() as u64;
        if size == 0 || room == 0 {
            return Ok(());
        }
        let read = (&mut from).take(size.min(room)).read_to_end(body)?;
        if (read as u64) < size.min(room) {
            return Err(broken("the answer ends in a chunk"));
        }
        if size > room {
            return Ok(());
        }
        line(&mut (&mut from).take(2))?;
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<(u16, String), String> {
        let read = read(text.as_bytes(), false).map_err(|error| error.to_string())?;
        Ok((read.status, String::from_utf8(read.body).unwrap()))
    }

    #[test]
    fn bodies_of_all_forms_are_read() {
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhithere"), Ok((200, "hi".into())));
        assert_eq!(answer("HTTP/1.0 404 Not Found\nX: y\n\nto the end"), Ok((404, "to the end".into())));
        assert_eq!(
            answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n3\r\n yo\r\n0\r\n\r\n"),
            Ok((200, "hi yo".into()))
        );
        assert_eq!(answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"), Ok((204, String::new())));
        let head = read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".as_bytes(), true).unwrap();
        assert_eq!(head, Answer { status: 200, body: Vec::new() });
    }

    #[test]
    fn hostile_answers_are_bounded_and_refused() {
        for wrong in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 999 X\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
        ] {
            assert!(answer(wrong).is_err(), "{wrong:?}");
        }
        let endless = io::BufReader::new(io::repeat(b'x'));
        assert!(read(endless, false).is_err());
        let flood = "HTTP/1.1 200 OK\r\n\r\n".as_bytes().chain(io::repeat(b'x'));
        assert_eq!(read(io::BufReader::new(flood), false).unwrap().body.len() as u64, BODY_BYTES_MAX);
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".as_bytes();
        let read = read(io::BufReader::new(chunk.chain(io::repeat(b'x'))), false).unwrap();
        assert_eq!(read.body.len() as u64, BODY_BYTES_MAX);
    }
}
