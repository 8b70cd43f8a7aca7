// SIPp scenarios written as what one telephone says and hears. Each step adds one
// command to SIPp's XML; patterns are regular expressions that the message must
// match, or, as { not: pattern }, must not.

const escape = (s) => s.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');

/** The telephone's sound: PCMA, and whatever more the line says. */
export const pcma = (version = 1, ...lines) => ['v=0', `o=ward 1 ${version} IN IP[local_ip_type] [local_ip]`, 's=-', 'c=IN IP[media_ip_type] [media_ip]', 't=0 0',
  'm=audio [media_port] RTP/AVP 8', 'a=rtpmap:8 PCMA/8000', ...lines].join('\n');

class Telephone {
  commands = [];
  variables = [];
  cseq = 0;
  number = '[service]';
  stands = false; // the dialog does
  invited = 0;    // where the last INVITE stands
  refused = false;

  add(xml) {
    this.commands.push(xml);
    return this;
  }

  /** Says nothing for a while. */
  waits(ms) { return this.add(`<pause milliseconds="${ms}"/>`); }

  checks(patterns) {
    return patterns.map((p) => {
      const variable = `v${this.variables.length}`;
      this.variables.push(variable);
      const [text, check] = p.not ? [p.not, 'check_it_inverse'] : [p, 'check_it'];
      return `<ereg regexp="${escape(text)}" search_in="msg" ${check}="true" assign_to="${variable}"/>`;
    });
  }

  /** Sends a request. */
  says(method, { sdp, headers = [], cseq, body, type = 'application/sdp', hops = 70 } = {}) {
    const content = sdp ?? body;
    if (cseq === undefined && method !== 'ACK') this.cseq += 1;
    const number = cseq ?? this.cseq;
    this.last = method;
    let branch = '[branch]';
    if (method === 'INVITE') { this.invited = this.commands.length; this.refused = false; }
    if (method === 'ACK' && this.refused) branch = `[branch-${this.commands.length - this.invited}]`;
    const lines = [`${method} ${this.stands ? '[next_url]' : `sip:${this.number}@[remote_ip]:[remote_port]`} SIP/2.0`,
      `Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=${branch}`,
      ...(this.stands ? ['[routes]'] : []), `From: ${this.from}`, `To: ${this.stands || method === 'ACK' ? this.to : this.to.replace('[peer_tag_param]', '')}`, 'Call-ID: [call_id]', `CSeq: ${number} ${method}`, `Max-Forwards: ${hops}`,
      ...(method === 'ACK' || method === 'BYE' ? [] : ['Contact: <sip:300@[local_ip]:[local_port]>']), ...headers,
      ...(content ? [`Content-Type: ${type}`] : []), 'Content-Length: [len]', '', content ?? ''];
    return this.add(`<send${method === 'ACK' ? '' : ' retrans="500"'}><![CDATA[\n${lines.join('\n')}\n]]></send>`);
  }

  /** Gets a final response; to an INVITE, provisional ones may come before it. */
  hears(status, ...patterns) {
    for (const p of this.last === 'INVITE' ? [100, 180, 183] : []) this.add(`<recv response="${p}" optional="true"/>`);
    if (status < 300) this.stands = true;
    this.refused = status >= 300;
    return this.add(`<recv response="${status}"${status < 300 && this.last === 'INVITE' ? ' rrs="true"' : ''}><action>${this.checks(patterns).join('')}</action></recv>`);
  }

  /** Gets a provisional response that must come. */
  isTold(status, ...patterns) {
    this.stands = true;
    return this.add('<recv response="100" optional="true"/>')
      .add(`<recv response="${status}" rrs="true"><action><ereg regexp="RSeq: *([0-9]+)" search_in="msg" assign_to="line,rseq"/>${this.checks(patterns).join('')}</action></recv>`);
  }

  /** Acknowledges that. */
  pracks(options = {}) {
    return this.says('PRACK', { ...options, headers: ['RAck: [$rseq] 1 INVITE'] });
  }

  /** Gets a request. */
  isAsked(method, ...patterns) {
    this.asked = method;
    return this.add(`<recv request="${method}" timeout="20000"><action>${this.checks(patterns).join('')}</action></recv>`);
  }

  /** Answers the last request. */
  answers(status, { sdp, headers = [], reason = 'Whatever' } = {}) {
    const lines = [`SIP/2.0 ${status} ${reason}`, '[last_Via:]', '[last_From:]', `[last_To:]${this.tag()}`, '[last_Call-ID:]', '[last_CSeq:]', '[last_Record-Route:]',
      'Contact: <sip:300@[local_ip]:[local_port]>', ...headers, ...(sdp ? ['Content-Type: application/sdp'] : []), 'Content-Length: [len]', '', sdp ?? ''];
    return this.add(`<send${status >= 200 && this.asked === 'INVITE' ? ' retrans="500"' : ''}><![CDATA[\n${lines.join('\n')}\n]]></send>`);
  }

  tag() { return ''; }

  /** Hangs up. */
  hangsUp() { return this.says('BYE').hears(200); }

  /** Is hung up. */
  isHungUp(...patterns) { return this.isAsked('BYE', ...patterns).answers(200); }

  xml(name) {
    const told = this.commands.some((c) => c.includes('assign_to="line,rseq"'));
    const used = this.commands.some((c) => c.includes('[$rseq]'));
    const all = [...this.variables, ...this.own, ...(told ? ['line'] : []), ...(told && !used ? ['rseq'] : [])];
    return `<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="${escape(name)}">\n${this.commands.join('\n')}\n${all.length ? `<Reference variables="${all.join(',')}"/>` : ''}\n</scenario>\n`;
  }
}

/** A telephone that calls. */
export class Caller extends Telephone {
  from = '"Ward" <sip:300@[local_ip]:[local_port]>;tag=[pid]w[call_number]';
  to = '<sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]';
  own = [];

  /** Calls, is answered and acknowledges. */
  calls(options = {}, ...patterns) {
    return this.says('INVITE', { sdp: pcma(), ...options }).hears(200, ...patterns).says('ACK');
  }
}

/** A telephone that is called. */
export class Callee extends Telephone {
  from = '<[$local]>;tag=[pid]u[call_number]';
  to = '<[$remote]>;tag=[$tag]';
  own = ['whole'];

  tag() { return this.stands || this.asked !== 'INVITE' ? '' : ';tag=[pid]u[call_number]'; }

  /** Is called. */
  isCalled(...patterns) {
    this.asked = 'INVITE';
    return this.add(`<recv request="INVITE" crlf="true" rrs="true"><action>
<ereg regexp="tag=(.*)" search_in="hdr" header="From:" assign_to="whole,tag"/>
<ereg regexp="&lt;(.*)&gt;" search_in="hdr" header="From:" assign_to="whole,remote"/>
<ereg regexp="&lt;(.*)&gt;" search_in="hdr" header="To:" assign_to="whole,local"/>
<ereg regexp=".*" search_in="hdr" header="Via:" assign_to="via"/>${this.checks(patterns).join('')}</action></recv>`);
  }

  /** Takes the call. */
  takes(options = {}) {
    this.answers(200, { sdp: pcma(), ...options });
    this.stands = true;
    return this.isAsked('ACK');
  }

  /** Answers the INVITE after other requests, or as another telephone that the proxy rings. */
  answersInvite(status, { sdp, headers = [], tag = '[pid]u[call_number]' } = {}) {
    const lines = [`SIP/2.0 ${status} Whatever`, 'Via:[$via]', 'From: <[$remote]>;tag=[$tag]', `To: <[$local]>;tag=${tag}`, 'Call-ID: [call_id]', 'CSeq: 1 INVITE',
      'Contact: <sip:300@[local_ip]:[local_port]>', ...headers, ...(sdp ? ['Content-Type: application/sdp'] : []), 'Content-Length: [len]', '', sdp ?? ''];
    return this.add(`<send${status >= 200 ? ' retrans="500"' : ''}><![CDATA[\n${lines.join('\n')}\n]]></send>`);
  }

  /** Takes the call after other requests of its dialog. */
  takesLate(options = {}) {
    this.answersInvite(200, options);
    this.stands = true;
    return this.isAsked('ACK', 'CSeq: 1 ACK');
  }

  xml(name) {
    this.own = ['whole', ...['tag', 'remote', 'local', 'via'].filter((v) => !this.commands.some((c) => c.includes(`[$${v}]`)))];
    return super.xml(name);
  }
}
