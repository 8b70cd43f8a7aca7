// Every line of the standards that a scenario proves: what a telephone says and
// hears, and where it is written. docs/compliance.md is made of this list.
import { Caller, Callee, pcma } from '../lib/scenario.mjs';

const timer = (seconds, refresher) => [`Session-Expires: ${seconds}${refresher ? `;refresher=${refresher}` : ''}`, 'Supported: timer'];
const vouched = ['P-Asserted-Identity: "Dr Sousa" <sip:4711@pbx.example>, <tel:+351210000000>', 'Diversion: <sip:4700@pbx.example>;reason=no-answer', 'History-Info: <sip:4700@pbx.example>;index=1'];
const holds = (number) => (number ? named(number) : new Caller()).calls().waits(200).says('INVITE', { sdp: pcma(2, 'a=sendonly') }).hears(200, 'a=recvonly').says('ACK');
const reliable = (n) => ['Require: 100rel', `RSeq: ${n}`];
const accepts = (...methods) => `Allow: INVITE, ACK, CANCEL, BYE${methods.map((m) => `, ${m}`).join('')}`;
const named = (number, caller = new Caller()) => Object.assign(caller, { number });
const under = (profile, ...lines) => pcma(1, ...lines).replace('RTP/AVP', profile);
const key = (tag, suite, size = 30, more = '') => `a=crypto:${tag} ${suite} inline:${Buffer.alloc(size, tag).toString('base64')}${more}`;
const shaken = ['a=fingerprint:sha-256 ' + Array(32).fill('AB').join(':'), 'a=setup:actpass', 'a=rtcp-mux'];
const [a, b, nobody] = ['ab30317f1a784dc48ff824d0d3715d86', '47755a9de7794ba387653f2099600ef2', '0'.repeat(32)];
const ours = (remote) => `Session-ID: ${a};remote=${remote}`;
const body = '\r\n\r\nv=0';

export const matrix = [
  // ---- session timers ----
  {
    rfc: 'RFC 4028 §9', what: 'a session that is too short is refused with 422 and the least; the longer one is taken, and the caller refreshes it',
    caller: () => new Caller().says('INVITE', { sdp: pcma(), headers: timer(60) }).hears(422, 'Min-SE: 90').says('ACK')
      .calls({ headers: timer(90) }, 'Session-Expires: 90;refresher=uac', 'Require: timer')
      .waits(200).says('UPDATE', { headers: timer(90, 'uac') }).hears(200, 'Session-Expires: 90;refresher=uac').hangsUp(),
  },
  {
    rfc: 'RFC 4028 §9', what: 'a caller that knows timers and asks for none is given ours',
    caller: () => new Caller().calls({ headers: ['Supported: timer'] }, 'Session-Expires: 1800;refresher=uac', 'Require: timer').hangsUp(),
  },
  {
    rfc: 'RFC 4028 §9', what: 'a caller that knows no timers is given none, and we refresh where its proxy wants one',
    caller: () => new Caller().calls({ headers: ['Session-Expires: 1800'] }, 'Session-Expires: 1800;refresher=uas', { not: 'Require: timer' }).hangsUp(),
  },
  {
    rfc: 'RFC 4028 §9', what: 'a caller that says nothing of timers hears nothing of them',
    caller: () => new Caller().calls({}, { not: 'Session-Expires' }).hangsUp(),
  },
  {
    rfc: 'RFC 4028 §7.1', what: 'our INVITE asks for half an hour and names the least',
    callee: () => new Callee().isCalled('Session-Expires: 1800', 'Min-SE: 90', 'Supported: timer').takes().isHungUp(), seconds: 2,
  },
  {
    rfc: 'RFC 4028 §7.3', what: 'a 422 to our INVITE is followed by one that asks for as much as it says',
    callee: () => new Callee().isCalled('Session-Expires: 1800').answers(422, { headers: ['Min-SE: 3600'] }).isAsked('ACK')
      .isCalled('Session-Expires: 3600', 'Min-SE: 3600', 'CSeq: 2 INVITE').takes({ headers: timer(3600, 'uas') }).isHungUp(), seconds: 2,
  },
  {
    rfc: 'RFC 4028 §7.4, §10', what: 'we refresh at half time by UPDATE without an offer, where the other takes it',
    callee: () => new Callee().isCalled().takes({ headers: [...timer(4, 'uac'), accepts('UPDATE')] })
      .isAsked('UPDATE', 'Session-Expires: 4;refresher=uac', 'Supported: timer', { not: body }).answers(200, { headers: [...timer(4, 'uac'), accepts('UPDATE')] })
      .isAsked('UPDATE').answers(200, { headers: timer(4, 'uac') }).isHungUp(), seconds: 5,
  },
  {
    rfc: 'RFC 4028 §7.4', what: 'we refresh by re-INVITE where UPDATE is not taken',
    callee: () => new Callee().isCalled().takes({ headers: [...timer(4, 'uac'), accepts()] })
      .isAsked('INVITE', 'Session-Expires: 4;refresher=uac', 'a=sendrecv').answers(200, { sdp: pcma(1), headers: timer(4, 'uac') }).isAsked('ACK').isHungUp(), seconds: 3,
  },
  {
    rfc: 'RFC 4028 §10', what: 'a session that the other end should have refreshed is hung up shortly before its end',
    callee: () => new Callee().isCalled().takes({ headers: timer(6, 'uas') }).isHungUp('Reason: Q.850;cause=102'), seconds: 8,
  },
  {
    rfc: 'RFC 4028 §10', what: 'a refresh that is answered with 481 ends the call',
    callee: () => new Callee().isCalled().takes({ headers: [...timer(4, 'uac'), accepts('UPDATE')] }).isAsked('UPDATE').answers(481).isHungUp(), seconds: 8,
  },
  // ---- UPDATE ----
  {
    rfc: 'RFC 3311 §5.2', what: 'an UPDATE without an offer is answered and changes nothing',
    caller: () => new Caller().calls().says('UPDATE').hears(200, 'Contact: ', { not: body }).hangsUp(),
  },
  {
    rfc: 'RFC 3311 §5.2', what: 'an UPDATE holds, and fetches back',
    caller: () => new Caller().calls().says('UPDATE', { sdp: pcma(2, 'a=sendonly') }).hears(200, 'a=recvonly').waits(200)
      .says('UPDATE', { sdp: pcma(3, 'a=sendrecv') }).hears(200, 'a=sendrecv').hangsUp(),
  },
  {
    rfc: 'RFC 3311 §5.2', what: 'an UPDATE whose offer cannot be met is refused with 488 and the call lives on',
    caller: () => new Caller().calls().says('UPDATE', { sdp: pcma(2).replace('RTP/AVP 8', 'RTP/AVP 18').replace('a=rtpmap:8 PCMA', 'a=rtpmap:18 G729') }).hears(488)
      .says('UPDATE').hears(200).hangsUp(),
  },
  // ---- provisional responses and sound before the answer ----
  {
    rfc: 'RFC 3262 §4', what: 'a reliable 183 is acknowledged by PRACK, and its sound goes on to the caller; the 200 brings no description of its own',
    callee: () => new Callee().isCalled('Supported: timer, 100rel').answers(183, { sdp: pcma(), headers: reliable(7) }).isAsked('PRACK', 'RAck: 7 1 INVITE').answers(200)
      .waits(500).takesLate().isHungUp(),
    caller: () => new Caller().says('INVITE', { sdp: pcma() }).isTold(183, 'm=audio', 'a=rtpmap:8 PCMA', { not: 'Require: 100rel' }).hears(200, 'm=audio').says('ACK').waits(500).hangsUp(),
  },
  {
    rfc: 'RFC 3262 §4', what: 'a reliable response that comes again, or out of turn, is not acknowledged',
    callee: () => new Callee().isCalled().answers(180, { headers: reliable(7) }).isAsked('PRACK', 'RAck: 7 1 INVITE').answers(200)
      .answersInvite(180, { headers: reliable(7) }).answersInvite(183, { headers: reliable(9) }).waits(300).answersInvite(183, { headers: reliable(8) })
      .isAsked('PRACK', 'RAck: 8 1 INVITE').answers(200).takesLate({ sdp: pcma() }).isHungUp(),
  },
  {
    rfc: 'RFC 3262 §3', what: 'a caller that requires it hears reliable responses, each after the PRACK of the one before',
    callee: () => new Callee().isCalled().answers(180).waits(200).answers(183, { sdp: pcma() }).waits(2500).takes().isHungUp(),
    caller: () => new Caller().says('INVITE', { sdp: pcma(), headers: ['Require: 100rel'] }).isTold(180, 'Require: 100rel', 'RSeq: ').waits(700).pracks().hears(200)
      .isTold(183, 'Require: 100rel', 'm=audio').pracks().hears(200).hears(200, 'm=audio').says('ACK', { cseq: 1 }).waits(500).hangsUp(),
  },
  {
    rfc: 'RFC 3262 §5', what: 'a caller that requires it and makes no offer gets ours in the first 180, and answers it in the PRACK',
    callee: () => new Callee().isCalled().answers(180).waits(1000).takes().isHungUp(),
    caller: () => new Caller().says('INVITE', { headers: ['Require: 100rel'] }).isTold(180, 'm=audio').pracks({ sdp: pcma() }).hears(200)
      .hears(200, { not: 'm=audio' }).says('ACK', { cseq: 1 }).waits(500).hangsUp(),
  },
  {
    rfc: 'RFC 3262 §3', what: 'a caller that only supports it hears reliably what describes sound, and plainly what does not',
    callee: () => new Callee().isCalled().answers(180).waits(200).answers(183, { sdp: pcma() }).waits(1500).takes().isHungUp(),
    caller: () => new Caller().says('INVITE', { sdp: pcma(), headers: ['Supported: 100rel'] }).add('<recv response="100" optional="true"/>').add('<recv response="180"/>')
      .isTold(183, 'Require: 100rel', 'm=audio').pracks().hears(200).hears(200, 'm=audio').says('ACK', { cseq: 1 }).waits(500).hangsUp(),
  },
  {
    rfc: 'RFC 3262 §3', what: 'a PRACK of nothing is answered with 481',
    callee: () => new Callee().isCalled().answers(180).waits(1000).takes().isHungUp(),
    caller: () => new Caller().says('INVITE', { sdp: pcma(), headers: ['Require: 100rel'] }).isTold(180).says('PRACK', { headers: ['RAck: 1 1 INVITE'] }).hears(481)
      .pracks().hears(200).hears(200).says('ACK', { cseq: 1 }).waits(500).hangsUp(),
  },
  {
    rfc: 'RFC 3261 §13.2.2.4, RFC 3960', what: 'of several telephones that a proxy rings, the one that answers is heard, whoever sounded before',
    callee: () => new Callee().isCalled().answersInvite(183, { sdp: pcma(), tag: 'first' }).answersInvite(183, { sdp: pcma(5), tag: 'second' }).waits(300)
      .takesLate({ sdp: pcma(9) }).isHungUp(),
    caller: () => new Caller().says('INVITE', { sdp: pcma() }).isTold(183, 'm=audio').hears(200, 'm=audio').says('ACK').waits(500).hangsUp(),
  },
  {
    rfc: 'RFC 3261 §8.2.2.3', what: 'an extension that we do not have is named back in a 420',
    caller: () => new Caller().says('INVITE', { sdp: pcma(), headers: ['Require: 100rel, precondition'] }).hears(420, 'Unsupported: precondition').says('ACK'),
  },
  // ---- offers and answers ----
  {
    rfc: 'RFC 3264 §5, RFC 3261 §13.2.1', what: 'an INVITE without an offer gets ours in the 200, and the ACK answers it; so does a re-INVITE',
    caller: () => new Caller().says('INVITE').hears(200, 'm=audio', 'a=rtpmap:8 PCMA').says('ACK', { sdp: pcma() }).waits(200)
      .says('INVITE').hears(200, 'm=audio', 'a=rtpmap:8 PCMA').says('ACK', { sdp: pcma(2) }).waits(200).hangsUp(),
  },
  {
    rfc: 'RFC 3264 §6', what: 'a line that is not wanted keeps its place with port 0: video, slides, text and what nobody knows',
    caller: () => new Caller().calls({ sdp: pcma(1, 'm=video 6010 RTP/AVP 96', 'a=rtpmap:96 H264/90000', 'm=application 6020 TCP/BFCP *', 'm=text 6030 RTP/AVP 97', 'a=rtpmap:97 t140/1000', 'm=hologram 6040 RTP/AVP 98') },
      'm=audio [1-9]', 'm=video 0 RTP/AVP', 'm=application 0 TCP/BFCP', 'm=text 0 RTP/AVP', 'm=hologram 0 RTP/AVP').hangsUp(),
  },
  {
    rfc: 'RFC 3264 §6', what: 'a video line before the sound keeps its place',
    caller: () => new Caller().calls({ sdp: pcma().replace('m=audio', 'm=video 6010 RTP/AVP 96\na=rtpmap:96 H264/90000\nm=audio') }, 'm=video 0 RTP/AVP.*m=audio [1-9]').hangsUp(),
  },
  {
    rfc: 'RFC 4585 §9', what: 'RTP/AVPF is answered as RTP/AVPF',
    caller: () => new Caller().calls({ sdp: pcma().replace('RTP/AVP', 'RTP/AVPF') }, 'm=audio [1-9][0-9]* RTP/AVPF').hangsUp(),
  },
  ...['RTP/SAVP', 'RTP/SAVPF', 'UDP/TLS/RTP/SAVPF'].map((profile) => ({
    rfc: 'RFC 3264 §6', what: `${profile}, on a trunk without SRTP, is refused with 488 and never answered with another profile`,
    caller: () => new Caller().says('INVITE', { sdp: pcma().replace('RTP/AVP', profile) }).hears(488).says('ACK'),
  })),
  {
    rfc: 'RFC 3264 §8.3.2', what: 'a re-INVITE changes the encoding',
    caller: () => new Caller().calls().waits(200).says('INVITE', { sdp: pcma(2).replace('RTP/AVP 8', 'RTP/AVP 0').replace('8 PCMA', '0 PCMU') })
      .hears(200, 'RTP/AVP 0', { not: 'PCMA' }).says('ACK').hangsUp(),
  },
  {
    at: '10.77.0.2', rfc: 'RFC 3264 §6.1', what: 'an encoding and the telephone-events are answered under the payload types that the offer gave them',
    caller: () => new Caller().calls({ sdp: pcma(1, 'a=rtpmap:96 telephone-event/8000', 'a=fmtp:96 0-15').replace('AVP 8', 'AVP 8 96') }, 'a=rtpmap:96 telephone-event/8000').hangsUp(),
  },
  ...[['sendonly', 'recvonly'], ['inactive', 'inactive'], ['recvonly', 'sendonly']].map(([offered, answered]) => ({
    rfc: 'RFC 3264 §6.1, §8.4', what: `a re-INVITE with ${offered} is answered with ${answered}, one with sendrecv fetches back`,
    caller: () => new Caller().calls().waits(200).says('INVITE', { sdp: pcma(2, `a=${offered}`) }).hears(200, `a=${answered}`).says('ACK').waits(200)
      .says('INVITE', { sdp: pcma(3, 'a=sendrecv') }).hears(200, 'a=sendrecv').says('ACK').hangsUp(),
  })),
  {
    rfc: 'RFC 6337 §5.3', what: 'a hold by the address 0.0.0.0 is answered with recvonly',
    caller: () => new Caller().calls().waits(200).says('INVITE', { sdp: pcma(2).replace('IN IP[media_ip_type] [media_ip]', 'IN IP4 0.0.0.0') }).hears(200, 'a=recvonly').says('ACK').hangsUp(),
  },
  {
    rfc: 'RFC 3261 §14.2', what: 'a re-INVITE that cannot be met is refused with 488, T.38 too, and the call is as it was',
    caller: () => new Caller().calls().waits(200).says('INVITE', { sdp: pcma(2).replace('m=audio [media_port] RTP/AVP 8', 'm=image 4000 udptl t38').replace('a=rtpmap:8 PCMA/8000', 'a=T38FaxVersion:0') }).hears(488).says('ACK').waits(200)
      .says('INVITE', { sdp: pcma(3, 'a=sendonly') }).hears(200, 'a=recvonly').says('ACK').hangsUp(),
  },
  {
    rfc: 'RFC 6157 §4', what: 'an offer of IPv6 alone is never answered with IPv4: 488 where we have none',
    caller: () => new Caller().says('INVITE', { sdp: pcma().replaceAll('IN IP[local_ip_type] [local_ip]', 'IN IP6 2001:db8::4').replaceAll('IN IP[media_ip_type] [media_ip]', 'IN IP6 2001:db8::4') }).hears(488).says('ACK'),
  },
  {
    rfc: 'RFC 3261 §14.1', what: 'a hold is offered to the other end; one that answers 491 is asked again after the time that the dialog\'s beginner waits',
    caller: () => holds().waits(5000).hangsUp(),
    callee: () => new Callee().isCalled().takes().isAsked('INVITE', 'a=sendonly', 'CSeq: 2 INVITE').answers(491).isAsked('ACK').waits(2000)
      .isAsked('INVITE', 'a=sendonly', 'CSeq: 3 INVITE').answers(200, { sdp: pcma(2, 'a=recvonly') }).isAsked('ACK').isHungUp(),
  },
  {
    rfc: 'RFC 3261 §14.1', what: 'a re-INVITE of ours that is refused leaves the call as it was',
    caller: () => holds().waits(500).says('UPDATE').hears(200).hangsUp(),
    callee: () => new Callee().isCalled().takes().isAsked('INVITE', 'a=sendonly').answers(488).isAsked('ACK').isHungUp(),
  },
  {
    rfc: 'RFC 3261 §12.2.1.2', what: 'a re-INVITE of ours that is answered with 481 ends the call',
    caller: () => holds().isHungUp(),
    callee: () => new Callee().isCalled().takes().isAsked('INVITE', 'a=sendonly').answers(481).isAsked('ACK').isHungUp(),
  },
  {
    rfc: 'RFC 3261 §8.1.3.4', what: 'a redirection, which no rule allows, is not followed: the caller hears 480',
    caller: () => new Caller().says('INVITE', { sdp: pcma() }).hears(480).says('ACK'),
    callee: () => new Callee().isCalled().answers(302, { headers: ['Contact: <sip:elsewhere@192.0.2.1>'] }).isAsked('ACK'),
  },
  // ---- sound that is kept secret ----
  {
    rfc: 'RFC 4568 §5.1.2', what: 'of the keys that are offered the first that we have is taken, under its tag and the same profile',
    at: '10.77.0.5', caller: () => new Caller().calls({ sdp: under('RTP/SAVP', key(4, 'F8_128_HMAC_SHA1_80'), key(7, 'AES_CM_128_HMAC_SHA1_32'), key(9, 'AES_CM_128_HMAC_SHA1_80')) },
      'RTP/SAVP 8', 'a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:', { not: 'a=crypto:9' }).hangsUp(),
  },
  {
    rfc: 'RFC 4568 §6.3', what: 'a key that asks for what we do not have is passed over; so is one of the wrong length',
    at: '10.77.0.5', caller: () => new Caller().calls({ sdp: under('RTP/SAVPF', key(1, 'AES_CM_128_HMAC_SHA1_80', 30, ' UNENCRYPTED_SRTP'), key(2, 'AES_CM_128_HMAC_SHA1_80', 16), key(3, 'AEAD_AES_256_GCM', 44, '|2^20|1:4 WSH=64')) },
      'RTP/SAVPF 8', 'a=crypto:3 AEAD_AES_256_GCM').hangsUp(),
  },
  {
    rfc: 'RFC 4568 §7.1', what: 'keys are changed in the call by a re-INVITE',
    at: '10.77.0.5', caller: () => new Caller().calls({ sdp: under('RTP/SAVP', key(1, 'AES_CM_128_HMAC_SHA1_80')) }).waits(200)
      .says('INVITE', { sdp: under('RTP/SAVP', key(2, 'AEAD_AES_128_GCM', 28)) }).hears(200, 'a=crypto:2 AEAD_AES_128_GCM').says('ACK').waits(200).hangsUp(),
  },
  {
    rfc: 'RFC 4568 §5.1.2', what: 'where SRTP is demanded a call without is refused with 488',
    at: '10.77.0.5', caller: () => new Caller().says('INVITE', { sdp: pcma() }).hears(488).says('ACK'),
  },
  {
    rfc: 'RFC 3264 §8.4', what: 'a call that is secret is not made plain by a re-INVITE: 488, and it goes on',
    at: '10.77.0.5', caller: () => new Caller().calls({ sdp: under('RTP/SAVP', key(1, 'AES_CM_128_HMAC_SHA1_80')) }).waits(200)
      .says('INVITE', { sdp: pcma(2) }).hears(488).says('ACK').says('UPDATE').hears(200).hangsUp(),
  },
  {
    rfc: 'RFC 3264 §6', what: 'a trunk whose SRTP is off is refused keys by 488',
    caller: () => new Caller().says('INVITE', { sdp: under('RTP/SAVP', key(1, 'AES_CM_128_HMAC_SHA1_80')) }).hears(488).says('ACK'),
  },
  {
    rfc: 'RFC 4568 §5.1.3', what: 'a trunk that demands SRTP is offered it, and hung up if it answers without',
    calleeAt: '10.77.0.5', caller: () => named('3001').says('INVITE', { sdp: pcma() }).hears(488).says('ACK'),
    callee: () => new Callee().isCalled('RTP/SAVP 9', 'a=crypto:1 AEAD_AES_128_GCM inline:', 'a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:').takes().isHungUp(),
  },
  {
    rfc: 'RFC 4568 §5.1.3', what: 'a key that was not offered is not taken',
    calleeAt: '10.77.0.5', caller: () => named('3001').says('INVITE', { sdp: pcma() }).hears(488).says('ACK'),
    callee: () => new Callee().isCalled().takes({ sdp: under('RTP/SAVP', key(5, 'AES_CM_128_HMAC_SHA1_80')) }).isHungUp(),
  },
  {
    rfc: 'RFC 8643 §3.1', what: 'keys under the plain profile are taken, and answered under it',
    at: '10.77.0.6', caller: () => new Caller().calls({ sdp: pcma(1, key(1, 'AES_CM_128_HMAC_SHA1_80')) }, 'RTP/AVP 8', 'a=crypto:1 AES_CM_128_HMAC_SHA1_80').hangsUp(),
  },
  {
    rfc: 'RFC 8643 §3.1', what: 'where SRTP is optional a call without keys is answered without',
    at: '10.77.0.6', caller: () => new Caller().calls({}, 'RTP/AVP 8', { not: 'a=crypto' }).hangsUp(),
  },
  {
    rfc: 'RFC 8643 §3.1', what: 'where SRTP is optional keys are offered under the plain profile, and need not be taken',
    calleeAt: '10.77.0.6', caller: () => named('3002').calls().waits(500).hangsUp(),
    callee: () => new Callee().isCalled('RTP/AVP 9', 'a=crypto:1').takes().isHungUp(),
  },
  {
    rfc: 'RFC 5763 §5', what: 'a handshake that is offered is answered under its profile: we wait for it',
    at: '10.77.0.6', caller: () => new Caller().calls({ sdp: under('UDP/TLS/RTP/SAVPF', ...shaken) }, 'UDP/TLS/RTP/SAVPF 8', 'a=fingerprint:sha-256 ', 'a=setup:passive', 'a=rtcp-mux').hangsUp(),
  },
  {
    rfc: 'RFC 5763 §5', what: 'a fingerprint of a hash that means nothing any more is not taken',
    at: '10.77.0.6', caller: () => new Caller().says('INVITE', { sdp: under('UDP/TLS/RTP/SAVPF', 'a=fingerprint:sha-1 ' + Array(20).fill('AB').join(':'), 'a=setup:actpass') }).hears(488).says('ACK'),
  },
  // ---- what a call is called ----
  {
    rfc: 'RFC 7989 §5, §7', what: 'each end hears what the other is called, in requests and responses, as if we were not between them',
    caller: () => new Caller().calls({ headers: [ours(nobody)] }, `Session-ID: ${b};remote=${a}`).waits(200)
      .says('UPDATE', { headers: [ours(b)] }).hears(200, `Session-ID: ${b};remote=${a}`).hangsUp(),
    callee: () => new Callee().isCalled(`Session-ID: ${a};remote=${nobody}`).answers(200, { sdp: pcma(), headers: [`Session-ID: ${b};remote=${a}`] })
      .isAsked('ACK', `Session-ID: ${a};remote=${b}`).isHungUp(`Session-ID: ${a};remote=${b}`),
  },
  {
    rfc: 'RFC 7989 §6', what: 'an end that says nothing of it is given a name that lasts',
    caller: () => new Caller().calls({ headers: [ours(nobody)] }, `Session-ID: [1-9a-f][0-9a-f]*;remote=${a}`, { not: `Session-ID: ${a}` }).hangsUp(),
    callee: () => new Callee().isCalled().takes().isHungUp(`Session-ID: ${a};remote=${nobody}`),
  },
  // ---- what a trunk can be set to ----
  {
    rfc: 'RFC 3960 §3.2', what: 'sound before the answer is not passed on to a trunk that is set so: it rings',
    at: '10.77.0.7', calleeAt: '10.77.0.4', caller: () => named('3006').says('INVITE', { sdp: pcma() }).isTold(180, { not: 'm=audio' }).hears(200, 'm=audio').says('ACK').waits(300).hangsUp(),
    callee: () => new Callee().isCalled().answers(183, { sdp: pcma() }).waits(500).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3960 §3.2', what: 'nor from one that is set so',
    calleeAt: '10.77.0.7', caller: () => named('3003').says('INVITE', { sdp: pcma() }).isTold(180, { not: 'm=audio' }).hears(200, 'm=audio').says('ACK').waits(300).hangsUp(),
    callee: () => new Callee().isCalled().answers(183, { sdp: pcma() }).waits(500).takes().isHungUp(),
  },
  {
    rfc: 'RFC 4028 §7.1', what: 'a trunk that is set so is asked for no limit',
    calleeAt: '10.77.0.8', caller: () => named('3004').calls().waits(300).hangsUp(), callee: () => new Callee().isCalled({ not: 'Session-Expires' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 4028 §9', what: 'and gives a call none that asks for none',
    at: '10.77.0.8', calleeAt: '10.77.0.4', caller: () => named('3006').calls({ headers: ['Supported: timer'] }, { not: 'Session-Expires' }).waits(300).hangsUp(), callee: () => new Callee().isCalled().takes().isHungUp(),
  },
  {
    rfc: 'RFC 3261 §16.6', what: 'headers that a trunk may hear are passed on to it, others are not',
    calleeAt: '10.77.0.7', caller: () => named('3003').calls({ headers: ['X-Visit: 4711', 'User-to-User: 56697369740a;encoding=hex', 'X-Ward: secret'] }).waits(300).hangsUp(),
    callee: () => new Callee().isCalled('X-Visit: 4711', 'User-to-User: 56697369740a;encoding=hex', { not: 'secret' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3262 §4', what: '100rel is not offered where the trunk is set so',
    calleeAt: '10.77.0.7', caller: () => named('3003').calls().waits(300).hangsUp(), callee: () => new Callee().isCalled({ not: '100rel' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3262 §4', what: '100rel is demanded where the trunk is set so',
    calleeAt: '10.77.0.8', caller: () => named('3004').calls().waits(300).hangsUp(), callee: () => new Callee().isCalled('Require: 100rel').takes().isHungUp(),
  },
  {
    rfc: 'RFC 4733 §2.4.1, RFC 8866 §6.4', what: 'the payload type of telephone-events and the length of a packet are offered as the trunk is set',
    calleeAt: '10.77.0.7', caller: () => named('3003').calls().waits(300).hangsUp(),
    callee: () => new Callee().isCalled('a=rtpmap:96 telephone-event/8000', 'a=ptime:40').takes().isHungUp(),
  },
  {
    rfc: 'RFC 3264 §8.4, RFC 2543 §B.5', what: 'a hold is told by the address 0.0.0.0 where the trunk is set so, and taken back',
    calleeAt: '10.77.0.7', caller: () => holds('3003').waits(300).says('INVITE', { sdp: pcma(3) }).hears(200).says('ACK').waits(500).hangsUp(),
    callee: () => new Callee().isCalled().takes().isAsked('INVITE', 'c=IN IP4 0.0.0.0').answers(200, { sdp: pcma(2, 'a=recvonly') }).isAsked('ACK')
      .isAsked('INVITE', 'c=IN IP4 10.77.0.1', 'a=sendrecv').answers(200, { sdp: pcma(3) }).isAsked('ACK').isHungUp(),
  },
  {
    rfc: 'RFC 3264 §8.4', what: 'a hold is told by inactive where the trunk is set so',
    calleeAt: '10.77.0.8', caller: () => holds('3004').waits(500).hangsUp(),
    callee: () => new Callee().isCalled().takes().isAsked('INVITE', 'a=inactive').answers(200, { sdp: pcma(2, 'a=inactive') }).isAsked('ACK').isHungUp(),
  },
  {
    rfc: 'RFC 3515 §2.4.4', what: 'a REFER is passed on where the trunk is set so, and what becomes of it is told back',
    at: '10.77.0.7', calleeAt: '10.77.0.4', caller: () => named('3006').calls().waits(200).says('REFER', { headers: ['Refer-To: <sip:4000@pbx.example>'] }).hears(202)
      .isAsked('NOTIFY', 'Event: refer', 'Subscription-State: terminated', 'SIP/2.0 200 OK').answers(200).hangsUp(),
    callee: () => new Callee().isCalled().takes().isAsked('REFER', 'Refer-To: <sip:4000@10.77.0.4', 'Referred-By: ').answers(202)
      .says('NOTIFY', { headers: ['Event: refer;id=9', 'Subscription-State: terminated;reason=noresource'], body: 'SIP/2.0 200 OK', type: 'message/sipfrag' }).hears(200).isHungUp(),
  },
  {
    rfc: 'RFC 3515 §2.4.2', what: 'a REFER is refused where the trunk is set so, and the call lives on',
    at: '10.77.0.8', calleeAt: '10.77.0.4', caller: () => named('3006').calls().waits(200).says('REFER', { headers: ['Refer-To: <sip:4000@pbx.example>'] }).hears(603).says('UPDATE').hears(200).hangsUp(),
    callee: () => new Callee().isCalled().takes().isHungUp(),
  },
  {
    rfc: 'RFC 6665 §8.1.1', what: 'a NOTIFY of nothing that was asked for is refused with 489',
    caller: () => new Caller().calls().says('NOTIFY', { headers: ['Event: message-summary', 'Subscription-State: active'] }).hears(489).hangsUp(),
  },
  {
    rfc: 'RFC 5373, RFC 3261 §20.9', what: 'who asks to be answered at once is, where the route lets it',
    calleeAt: '10.77.0.4', caller: () => named('3005').calls({ headers: ['Call-Info: <sip:10.77.0.2>; answer-after=0'] }).waits(300).hangsUp(),
    callee: () => new Callee().isCalled('Call-Info: .*;answer-after=0', 'Alert-Info: .*info=alert-autoanswer', 'Answer-Mode: Auto').takes().isHungUp(),
  },
  {
    rfc: 'RFC 5373, RFC 3261 §20.9', what: 'who does not ask, or may not, rings like any other',
    calleeAt: '10.77.0.3', caller: () => named('3000').calls({ headers: ['Alert-Info: <http://10.77.0.2>;info=alert-autoanswer;delay=0'] }).waits(300).hangsUp(),
    callee: () => new Callee().isCalled({ not: 'answer-after' }, { not: 'Answer-Mode' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3261 §21.4.4', what: 'a destination that costs money is called by who may',
    calleeAt: '10.77.0.3', caller: () => named('9001').calls().waits(300).hangsUp(), callee: () => new Callee().isCalled().takes().isHungUp(),
  },
  {
    rfc: 'RFC 3261 §21.4.4', what: 'who may not call a destination that costs money is refused with 403',
    at: '10.77.0.4', caller: () => named('9001').says('INVITE', { sdp: pcma() }).hears(403).says('ACK'),
  },
  {
    rfc: 'RFC 3515 §2.4.4', what: 'a transfer to a destination that costs money is refused, and the two talk on',
    at: '10.77.0.4', calleeAt: '10.77.0.3', caller: () => named('3000').calls().waits(200).says('REFER', { headers: ['Refer-To: <sip:9001@pbx.example>'] }).hears(202)
      .isAsked('NOTIFY', 'SIP/2.0 100').answers(200).isAsked('NOTIFY', 'SIP/2.0 403').answers(200).waits(300).says('UPDATE').hears(200).hangsUp(),
    callee: () => new Callee().isCalled().takes().isHungUp(),
  },
  {
    rfc: 'RFC 3325 §9, docs/trunks.md', what: 'a quirk is evened out: who calls by Remote-Party-ID is told to others as the standards say',
    at: '10.77.0.7', calleeAt: '10.77.0.3', caller: () => named('3000').calls({ headers: ['Remote-Party-ID: "Dr Sousa" <sip:4711@10.77.0.7>;party=calling;screen=yes;privacy=off'] }).waits(300).hangsUp(),
    callee: () => new Callee().isCalled('P-Asserted-Identity: "Dr Sousa" <sip:4711@10.77.0.7>', { not: 'Remote-Party-ID' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3325 §9, docs/trunks.md', what: 'and told the PBX in its own way',
    calleeAt: '10.77.0.7', caller: () => named('3003').calls({ headers: vouched }).waits(300).hangsUp(),
    callee: () => new Callee().isCalled('Remote-Party-ID: "Dr Sousa" <sip:4711@[^>]*>;party=calling;screen=yes;privacy=off').takes().isHungUp(),
  },
  // ---- requests ----
  {
    rfc: 'RFC 3261 §11.2', what: 'OPTIONS tells what we take',
    caller: () => new Caller().says('OPTIONS').hears(200, 'Allow: .*UPDATE', 'Accept: application/sdp', 'Supported: .*100rel'),
  },
  {
    rfc: 'RFC 3261 §8.2.1', what: 'a method that we do not know is refused with 405 and those that we do',
    caller: () => new Caller().says('PUBLISH').hears(405, 'Allow: INVITE, '),
  },
  {
    rfc: 'RFC 3261 §8.2.3', what: 'an INVITE whose body is no description is refused with 415 and what we take',
    caller: () => new Caller().says('INVITE', { body: 'hello', type: 'text/plain' }).hears(415, 'Accept: application/sdp').says('ACK'),
  },
  {
    rfc: 'RFC 3261 §16.3', what: 'a request that has no hops left is refused with 483',
    caller: () => new Caller().says('INVITE', { sdp: pcma(), hops: 0 }).hears(483).says('ACK'),
  },
  {
    rfc: 'RFC 3261 §12.2.2', what: 'a request out of its order is refused with 500 and the call lives on',
    caller: () => new Caller().calls().says('INFO').hears(200).says('INFO', { cseq: 1 }).hears(500).says('UPDATE').hears(200).hangsUp(),
  },
  {
    rfc: 'RFC 3261 §19.1.2', what: 'a number that no route knows is refused with 404',
    caller: () => named('5').says('INVITE', { sdp: pcma() }).hears(404).says('ACK'),
  },
  // ---- who calls ----
  {
    rfc: 'RFC 3325 §5', what: 'from one trusted trunk to another who calls is asserted, with its wish to be unknown and where the call was before',
    calleeAt: '10.77.0.3', caller: () => named('3000').calls({ headers: [...vouched, 'Privacy: id'] }).waits(500).hangsUp(),
    callee: () => new Callee().isCalled('P-Asserted-Identity: "Dr Sousa" <sip:4711@pbx.example>', 'Privacy: id', 'From: "Anonymous" <sip:anonymous@anonymous.invalid>',
      'Diversion: <sip:4700@pbx.example>;reason=no-answer', 'History-Info: <sip:4700@pbx.example>;index=1').takes().isHungUp(),
  },
  {
    rfc: 'RFC 3325 §5', what: 'a trunk that is not trusted is told who calls in From alone; a caller that wants to be unknown is',
    caller: () => new Caller().calls({ headers: [...vouched, 'Privacy: id'] }).waits(500).hangsUp(),
    callee: () => new Callee().isCalled('From: "Anonymous" <sip:anonymous@anonymous.invalid>', { not: 'P-Asserted-Identity' }, { not: 'Diversion' }, { not: 'History-Info' }, { not: '4711' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3325 §5', what: 'a trunk that is not trusted is believed in From alone',
    at: '10.77.0.4', calleeAt: '10.77.0.3', caller: () => named('3000').calls({ headers: vouched }).waits(500).hangsUp(),
    callee: () => new Callee().isCalled('From: "Ward" <sip:300@', { not: 'P-Asserted-Identity' }, { not: '4711' }, { not: 'Diversion' }).takes().isHungUp(),
  },
  {
    rfc: 'RFC 3325 §5', what: 'who a trusted trunk says is calling is who the policy and the other end see',
    caller: () => new Caller().calls({ headers: vouched }).waits(500).hangsUp(),
    callee: () => new Callee().isCalled('From: "Dr Sousa" <sip:4711@').takes().isHungUp(),
  },
  // ---- dialogs ----
  {
    rfc: 'RFC 3261 §12.2.2', what: 'a request of no dialog is answered with 481, whatever its method',
    caller: () => ['UPDATE', 'INFO', 'BYE', 'REFER'].reduce((t, m) => t.says(m).hears(481), Object.assign(new Caller(), { to: '<sip:[service]@[remote_ip]:[remote_port]>;tag=nobody' })),
  },
];
