//! What the server may ask for.

use clamshell_protocol::{ErrorCode, GuestInfo, PROTOCOL_VERSION, Reply, Request};

use super::{Guest, attachments::Manner, connection::Role};

impl Guest {
    pub(super) fn take_request(&mut self, id: u64, request: Request) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.deadline_ms = None;
        }
        let starts = matches!(request, Request::Command(_) | Request::Shell { .. } | Request::AgentStart(_));
        if starts && self.shutdown.is_some() {
            return self.refuse(id, ErrorCode::ShuttingDown, "the sandbox is shutting down");
        }
        match request {
            Request::Hello => {
                let info = GuestInfo {
                    protocol: PROTOCOL_VERSION,
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    uptime_ms: self.now_ms - self.started_ms,
                    shells: u32::try_from(self.running.len()).unwrap_or(u32::MAX),
                    commands: u32::try_from(self.commands.len()).unwrap_or(u32::MAX),
                };
                self.reply(id, Reply::Hello(info));
            }
            Request::Command(spec) => self.start_command(id, &spec),
            Request::Shell { shell_id, create, from, access, lead_bytes_max, answers_when_told } => {
                let manner = Manner { access, lead_bytes_max, answers_when_told };
                self.attach(id, &shell_id, create.as_deref(), from, manner);
            }
            Request::ShellList => {
                let shells = self.list_shells();
                self.reply(id, Reply::Shells { shells });
            }
            Request::ShellClose { shell_id, grace_ms } => {
                let Some(serial) = self.running.get(&shell_id).copied() else {
                    return self.refuse(id, ErrorCode::NotFound, "no such running shell");
                };
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.role = Role::AwaitEnd(serial);
                }
                self.hang_up(serial, grace_ms);
            }
            Request::AgentStart(spec) => self.start_agent(id, &spec),
            Request::AgentShow => self.show_agent(id),
            Request::AgentLog { from_offset } => self.follow_agent(id, from_offset),
            Request::Connect { port, pass } => self.connect_to(id, port, pass),
            Request::SetRoleCredentials(credentials) => {
                let Some(metadata) = &mut self.metadata else {
                    return self.refuse(id, ErrorCode::NotFound, "there is no metadata service");
                };
                match metadata.set_credentials(&credentials) {
                    Ok(()) => self.reply(id, Reply::Done),
                    Err(reason) => self.refuse(id, ErrorCode::Invalid, reason),
                }
            }
            Request::Shutdown { grace_ms } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.role = Role::AwaitShutdown;
                }
                self.begin_shutdown(grace_ms);
            }
        }
    }
}
