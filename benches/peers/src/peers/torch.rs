//! PyTorch in a child process, spoken to in lines of JSON; see `torch_child.py`.

use crate::data::Sample;
use crate::form::Form;
use crate::row::Snippet;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(150);

/// The child.
pub(crate) struct Torch {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    forms: usize,
    alive: bool,
    /// Version and instruction set, as it says itself.
    pub(crate) version: String,
}

impl Torch {
    /// Starts `python` with as many threads as are measured.
    pub(crate) fn start(python: &str, threads: usize) -> Result<Rc<RefCell<Torch>>, String> {
        let say = |e: std::io::Error| format!("{python}: {e}");
        let mut child = Command::new(python)
            .args(["-c", include_str!("torch_child.py"), &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(say)?;
        let requests = child.stdin.take().ok_or("no stdin")?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let (send, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut torch = Torch { child, requests, answers, forms: 0, alive: true, version: String::new() };
        let hello = torch.receive()?;
        let text = |key: &str| hello[key].as_str().unwrap_or("?").to_string();
        torch.version = format!("{} ({})", text("torch"), text("capability"));
        Ok(Rc::new(RefCell::new(torch)))
    }

    fn receive(&mut self) -> Result<Value, String> {
        let line = self.answers.recv_timeout(LIMIT).map_err(|_| {
            self.alive = false;
            // It is gone already, or it is not wanted any more.
            let _ = self.child.kill();
            format!("no answer within {} s", LIMIT.as_secs())
        })?;
        let answer: Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_string()),
            None => Ok(answer),
        }
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        if !self.alive {
            return Err("the Python process is gone".to_string());
        }
        writeln!(self.requests, "{request}")
            .and_then(|()| self.requests.flush())
            .map_err(|e| e.to_string())?;
        self.receive()
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Remote {
    torch: Rc<RefCell<Torch>>,
    id: usize,
    sample: Sample,
}

/// A snippet, compiled and run once in the child.
pub(crate) fn build(torch: &Rc<RefCell<Torch>>, snippet: &Snippet) -> Result<Box<dyn Form>, String> {
    let mut child = torch.borrow_mut();
    child.forms += 1;
    let id = child.forms;
    let answer = child.ask(&json!({ "build": id, "code": snippet.code, "grad": snippet.grad }))?;
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN) as f32;
    let values = answer["values"].as_array().map(|a| a.iter().map(number).collect()).unwrap_or_default();
    let numel = answer["numel"].as_u64().unwrap_or(0) as usize;
    drop(child);
    Ok(Box::new(Remote { torch: torch.clone(), id, sample: Sample { numel, values } }))
}

impl Form for Remote {
    fn time(&mut self, reps: usize, samples: usize) -> Result<f64, String> {
        let request = json!({ "time": self.id, "reps": reps, "samples": samples });
        self.torch.borrow_mut().ask(&request)?["seconds"].as_f64().ok_or("no time".to_string())
    }

    fn sample(&mut self) -> Result<Sample, String> {
        Ok(self.sample.clone())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // What it holds goes with the child at the latest.
        let _ = self.torch.borrow_mut().ask(&json!({ "drop": self.id }));
    }
}
