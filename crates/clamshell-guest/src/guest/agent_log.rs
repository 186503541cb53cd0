//! Those who follow the agent's log: cursors, as a shell's attachments are, but nothing ever waits for them.

use clamshell_protocol::{ErrorCode, Frame, Reply};

use super::{
    Guest,
    agent::Agent,
    attachments,
    connection::{OUTPUT_LINGER_MS, Role},
};

/// A cursor into the agent's log.
pub(super) struct Follower {
    /// Next offset to send.
    cursor: u64,
}

enum Next {
    Queued,
    Last,
    Nothing,
}

impl Guest {
    pub(super) fn follow_agent(&mut self, id: u64, from_offset: u64) {
        let Some(agent) = &mut self.agent else {
            return self.refuse(id, ErrorCode::NotFound, "no agent was started");
        };
        let info = agent.info();
        if from_offset > info.end_offset {
            let message = format!("the log ends at {}", info.end_offset);
            return self.refuse(id, ErrorCode::OffsetOutOfRange, message);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.role = Role::AgentLog(Follower { cursor: from_offset });
        connection.push(&Frame::Reply(Box::new(Reply::Agent(info))));
        agent.followers.push(id);
        self.pump(id);
    }

    pub(super) fn unfollow(&mut self, id: u64) {
        if let Some(agent) = &mut self.agent {
            agent.followers.retain(|follower| *follower != id);
        }
    }

    pub(super) fn pump_followers(&mut self) {
        let followers = self.agent.as_ref().map(|agent| agent.followers.clone()).unwrap_or_default();
        for id in followers {
            self.pump_follower(id);
        }
    }

    /// Sends a follower what its socket takes of what it has not seen.
    pub(super) fn pump_follower(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (Role::AgentLog(follower), Some(agent)) = (&mut connection.role, &mut self.agent) else { return };
        let over = loop {
            match connection.out.flush(&connection.watch) {
                Ok(count) if count > 0 && connection.closing => {
                    connection.deadline_ms = Some(self.now_ms + OUTPUT_LINGER_MS);
                }
                Ok(_) => {}
                Err(_) => break true,
            }
            if !connection.out.is_empty() {
                break false;
            }
            if connection.closing {
                break true;
            }
            match next_frames(agent, follower, connection.out.tail()) {
                Next::Queued => {}
                Next::Last => {
                    connection.closing = true;
                    connection.deadline_ms = Some(self.now_ms + OUTPUT_LINGER_MS);
                }
                Next::Nothing => break false,
            }
        };
        if over {
            self.drop_connection(id);
        } else {
            self.update_interest(id);
        }
    }
}

/// Queues what comes next for a follower whose queue is empty.
fn next_frames(agent: &mut Agent, follower: &mut Follower, out: &mut Vec<u8>) -> Next {
    let ended = agent.end();
    let output = &mut agent.output;
    let (start, end) = (output.log.start(), output.log.end());
    if follower.cursor >= end {
        return match ended {
            Some(exit) => {
                Frame::Exit(exit).encode(out);
                Next::Last
            }
            None => Next::Nothing,
        };
    }
    let cursor = follower.cursor;
    let sent = if cursor < start {
        None
    } else {
        attachments::output(&output.tail, &mut output.log, cursor, end, out)
    };
    follower.cursor = match sent {
        Some(count) => cursor + count,
        // What is there but cannot be read is passed over as well.
        None => {
            let to = if cursor < start { start } else { end };
            Frame::Gap { from: cursor, to }.encode(out);
            to
        }
    };
    Next::Queued
}
