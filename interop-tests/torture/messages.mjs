// The messages of RFC 4475 and RFC 5118, each with what is tortuous about it, and what
// the RFC says comes of it. The rest of a message is shortened to what it needs, and
// the first Via names the sender, so that answers find it.
const audio = 'v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0 12\r\na=rtpmap:31 LPC\r\n';
const sdp = ['Content-Type: application/sdp'];

/** Builds a message: start line, Via, dialog headers, others; null leaves one out. */
function message(start, { via = 'SIP/2.0/{transport} {sender};branch=z9hG4bK-{branch}', from = '<sip:caller@example.org>;tag=33242', to = '<sip:user@example.com>', id = 'torture-{branch}', cseq,
  hops = '70', contact = '<sip:caller@host5.example.net>', more = [], body = '', length = Buffer.byteLength(body) } = {}) {
  const method = start.split(' ')[0];
  const lines = [start];
  const add = (name, value) => { if (value !== null) lines.push(`${name}: ${value}`); };
  add('Via', via);
  add('Max-Forwards', hops);
  add('From', from);
  add('To', to);
  add('Call-ID', id);
  add('CSeq', cseq === undefined ? `8 ${method}` : cseq);
  add('Contact', method === 'INVITE' || method === 'REGISTER' ? contact : null);
  lines.push(...more);
  add('Content-Length', length);
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

const valid = [404, 405, 488]; // understood: nobody here has that number, or takes that method or that address
const options = [200];

/** name, where it stands, what is tortuous, the message, and the statuses that may come; silence: none may. */
export const messages = [
  ['wsinv', 'RFC 4475 §3.1.1.1', 'white space, folding and compact forms wherever they may be', [
    'INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0', 'TO :', ' sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n', 'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>', '  ;', '  tag = 98asjd8', 'MaX-fOrWaRdS: 0068',
    'Call-ID: wsinv-{branch}', 'Content-Length   : {length}', 'cseq: 0009', '  INVITE', 'Via  : SIP  /   2.0', ' /{transport}', '    {sender};branch=390skdjuw', 's :', 'NewFangledHeader:   newfangled value', ' continued newfangled value',
    'UnknownHeaderWithUnusualValue: ;;,,;;,;', 'Content-Type: application/sdp', 'Route:', ' <sip:services.example.com;lr;unknownwith=value;unknown-no-value>', 'v:  SIP  / 2.0  / TCP     spindle.example.com   ;', '  branch  =   z9hG4bK9ikj8  ,', ' SIP  /    2.0   / UDP  192.168.255.111   ; branch=',
    ' z9hG4bK30239', 'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =', '      newvalue ;', '  secondparam ; q = 0.33', '', audio].join('\r\n').replace('{length}', audio.length), [...valid, 481]],
  ['intmeth', 'RFC 4475 §3.1.1.2', 'a method and a URI of every character that may be there', message("!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0",
    { from: `token1~\` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%="работающий";tag=_token~1'+\`*%!-.`, to: `"BEL:\u0007 NUL:\u0000 DEL:\u007f" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>`,
      cseq: "139122385 !interesting-Method0123456789_*+`.%indeed'~", more: ['extensionHeader-!.%*+_`\'~: 大停電'] }), [405, 501]],
  ['esc01', 'RFC 4475 §3.1.1.3', '% where it means itself and where it escapes', message('INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0', { to: 'sip:%75se%72@example.com', from: '<sip:I%20have%20spaces@example.net>;tag=938', contact: '<sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>', more: sdp, body: audio }), valid],
  ['escnull', 'RFC 4475 §3.1.1.4', 'an escaped nul in a URI', message('REGISTER sip:example.com SIP/2.0', { to: 'sip:null-%00-null@example.com', from: 'sip:null-%00-null@example.com;tag=839923423', contact: '<sip:%00@host5.example.com>', more: ['Contact: <sip:%00%00@host5.example.com>'] }), [401, 403, 404, 405]],
  ['esc02', 'RFC 4475 §3.1.1.5', '% where it escapes nothing', message('RE%47IST%45R sip:registrar.example.com SIP/2.0', { to: '"%Z%45" <sip:resource@example.com>', from: '"%Z%45" <sip:resource@example.com>;tag=f232jadfj23', cseq: '29344 RE%47IST%45R' }), [405, 501]],
  ['lwsdisp', 'RFC 4475 §3.1.1.6', 'no space between a display name and <', message('OPTIONS sip:user@example.com SIP/2.0', { from: 'caller<sip:caller@example.com>;tag=323' }), options],
  ['longreq', 'RFC 4475 §3.1.1.7', 'values of some hundred characters', message('INVITE sip:user@example.com SIP/2.0', { to: `"I have a user name of ${'extreme '.repeat(12)}proportion"<sip:user@example.com:6000;unknownparam1=${'very'.repeat(20)}value;longparam${'name'.repeat(25)}=shortvalue>`,
    from: `sip:${'amazinglylong'.repeat(8)}callername@example.net;tag=12${'982424'.repeat(8)}`, id: `longreq.one${'really'.repeat(20)}longcallid-{branch}`, more: [`Unknown-${'Long'.repeat(20)}-Name: unknown-${'long'.repeat(20)}-value`,
      `Via: ${Array.from({ length: 12 }, (_, i) => `SIP/2.0/TCP sip${33 - i}.example.com`).join(', ')}`, ...sdp], body: audio }), valid],
  ['dblreq', 'RFC 4475 §3.1.1.8', 'bytes after the message', `${message('OPTIONS sip:example.com SIP/2.0')}INVITE sip:joe@example.com SIP/2.0\r\n\r\n`, options, { transports: ['UDP'] }],
  ['semiuri', 'RFC 4475 §3.1.1.9', 'a user part with parameters of its own', message('OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0', { to: 'sip:j_user@example.com' }), options],
  ['transports', 'RFC 4475 §3.1.1.10', 'transports that nobody knows, in Via', message('OPTIONS sip:user@example.com SIP/2.0', { more: ['Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf', 'Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj', 'Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en', 'Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee'] }), options],
  ['mpart01', 'RFC 4475 §3.1.1.11', 'a body of several parts, one of them binary', message('MESSAGE sip:kumiko@example.org SIP/2.0', { more: ['Content-Type: multipart/mixed;boundary=7a9cbec02ceef655', 'MIME-Version: 1.0'], body: '--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\n\r\n\u0000\u0001\u0082\r\n--7a9cbec02ceef655--\r\n' }), [405, 501]],
  ['unreason', 'RFC 4475 §3.1.1.12', 'a response whose reason is of unusual characters', message('SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое', { cseq: '35 INVITE' }), []],
  ['noreason', 'RFC 4475 §3.1.1.13', 'a response without a reason', message('SIP/2.0 100 ', { cseq: '35 INVITE' }), []],
  ['badinv01', 'RFC 4475 §3.1.2.1', 'separators with nothing between them', message('INVITE sip:user@example.com SIP/2.0', { contact: '"Joe" <sip:joe@example.org>;;;;', more: ['Via: SIP/2.0/UDP 192.0.2.15;;,;,,', ...sdp], body: audio }), [400]],
  ['clerr', 'RFC 4475 §3.1.2.2', 'a Content-Length beyond the end', message('INVITE sip:user@example.com SIP/2.0', { more: sdp, body: audio, length: 9999 }), [400], { transports: ['UDP'] }],
  ['ncl', 'RFC 4475 §3.1.2.3', 'a negative Content-Length', message('INVITE sip:user@example.com SIP/2.0', { more: sdp, body: audio, length: -999 }), [400], { closes: true }],
  ['scalar02', 'RFC 4475 §3.1.2.4', 'numbers that are too large', message('REGISTER sip:example.com SIP/2.0', { cseq: '36893488147419103232 REGISTER', hops: '300', more: ['Expires: 10000000000000000000000'] }), [400]],
  ['scalarlg', 'RFC 4475 §3.1.2.5', 'numbers that are too large, in a response', message('SIP/2.0 503 Service Unavailable', { cseq: '9292394834772304023312 OPTIONS', more: ['Retry-After: 949302838503028349304023988'] }), []],
  ['quotbal', 'RFC 4475 §3.1.2.6', 'a quoted string that does not end', message('INVITE sip:user@example.com SIP/2.0', { to: '"Mr. J. User <sip:j.user@example.com>', more: sdp, body: audio }), [400]],
  ['ltgtruri', 'RFC 4475 §3.1.2.7', 'a Request-URI in <>', message('INVITE <sip:user@example.com> SIP/2.0', { more: sdp, body: audio }), [400, 416]],
  ['lwsruri', 'RFC 4475 §3.1.2.8', 'white space within the Request-URI', message('INVITE sip:user@example.com; lr SIP/2.0', { more: sdp, body: audio }), [400]],
  ['lwsstart', 'RFC 4475 §3.1.2.9', 'more than one space in the request line', message('INVITE  sip:user@example.com  SIP/2.0', { more: sdp, body: audio, cseq: '8 INVITE' }), [400, 404]],
  ['trws', 'RFC 4475 §3.1.2.10', 'spaces at the end of the request line', message('OPTIONS sip:remote-target@example.com SIP/2.0  '), [400, 200]],
  ['escruri', 'RFC 4475 §3.1.2.11', 'headers in the Request-URI', message('INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0', { more: sdp, body: audio }), [400, 404]],
  ['baddate', 'RFC 4475 §3.1.2.12', 'a date in no time zone that there is', message('INVITE sip:user@example.com SIP/2.0', { more: ['Date: Fri, 01 Jan 2010 16:00:00 EST', ...sdp], body: audio }), [400, 404]],
  ['regbadct', 'RFC 4475 §3.1.2.13', 'a Contact with a header and no <>', message('REGISTER sip:example.com SIP/2.0', { contact: 'sip:user@example.com?Route=%3Csip:sip.example.com%3E' }), [400, 401, 405]],
  ['badaspec', 'RFC 4475 §3.1.2.14', 'spaces within an address', message('OPTIONS sip:user@example.org SIP/2.0', { to: '"Watson, Thomas" < sip:t.watson@example.org >' }), [400, 200]],
  ['baddn', 'RFC 4475 §3.1.2.15', 'a display name with a comma and no quotes', message('OPTIONS sip:t.watson@example.org SIP/2.0', { from: 'Bell, Alexander <sip:a.g.bell@example.com>;tag=43' }), [400, 200]],
  ['badvers', 'RFC 4475 §3.1.2.16', 'SIP/7.0', message('OPTIONS sip:t.watson@example.org SIP/7.0', { via: 'SIP/7.0/{transport} {sender};branch=z9hG4bKkdjuw-{branch}' }), [505]],
  ['mismatch01', 'RFC 4475 §3.1.2.17', 'another method in CSeq', message('OPTIONS sip:user@example.com SIP/2.0', { cseq: '8 INVITE' }), [400]],
  ['mismatch02', 'RFC 4475 §3.1.2.18', 'another method in CSeq, and one that nobody knows', message('NEWMETHOD sip:user@example.com SIP/2.0', { cseq: '8 INVITE' }), [400, 405, 501]],
  ['bigcode', 'RFC 4475 §3.1.2.19', 'a response with a status that is too large', message('SIP/2.0 4294967301 better not break the receiver', { cseq: '353494 INVITE' }), []],
  ['badbranch', 'RFC 4475 §3.2.1', 'a branch that is the cookie and no more', message('OPTIONS sip:user@example.com SIP/2.0', { via: 'SIP/2.0/{transport} {sender};branch=z9hG4bK' }), options],
  ['insuf', 'RFC 4475 §3.3.1', 'no Call-ID, From or To', message('INVITE sip:user@example.com SIP/2.0', { from: null, to: null, id: null, more: sdp, body: audio }), [400]],
  ['unkscm', 'RFC 4475 §3.3.2', 'a Request-URI of a scheme that nobody knows', message('OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0'), [416]],
  ['novelsc', 'RFC 4475 §3.3.3', 'a Request-URI of a scheme that is known, and not for SIP', message('OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0'), [416]],
  ['unksm2', 'RFC 4475 §3.3.4', 'From, To and Contact of schemes that nobody knows', message('REGISTER sip:example.com SIP/2.0', { to: 'isbn:2983792873', from: '<http://www.example.com>;tag=3234233', contact: '<name:John_Smith>' }), [400, 401, 403, 404, 405]],
  ['bext01', 'RFC 4475 §3.3.5', 'extensions that nobody has, demanded', message('OPTIONS sip:user@example.com SIP/2.0', { more: ['Require: nothingSupportsThis, nothingSupportsThisEither', 'Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis'] }), [420]],
  ['invut', 'RFC 4475 §3.3.6', 'a body of a type that nobody knows', message('INVITE sip:user@example.com SIP/2.0', { more: ['Content-Type: application/unknownformat'], body: '<audio>\r\n <pcmu port="443"/>\r\n</audio>\r\n' }), [415]],
  ['regaut01', 'RFC 4475 §3.3.7', 'credentials of a scheme that nobody knows', message('REGISTER sip:example.com SIP/2.0', { more: ['Authorization: NoOneKnowsThisScheme opaque-data=here'] }), [401, 405]],
  ['multi01', 'RFC 4475 §3.3.8', 'headers twice that may be there once', message('INVITE sip:user@example.com SIP/2.0', { more: ['CSeq: 59 INVITE', 'Call-ID: multi01.98asdh@192.0.2.2', 'To: sip:user2@example.net', 'From: sip:user@example.com;tag=83', ...sdp], body: audio }), [400]],
  ['mcl01', 'RFC 4475 §3.3.9', 'two Content-Lengths', message('OPTIONS sip:user@example.com SIP/2.0', { more: ['Content-Length: 5'], body: 'There' }), [400, 200]],
  ['bcast', 'RFC 4475 §3.3.10', 'a response of nobody\'s, to be sent to everybody', message('SIP/2.0 200 OK', { via: 'SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23', cseq: '11 OPTIONS' }), []],
  ['zeromf', 'RFC 4475 §3.3.11', 'no hops left, and we are the one', message('OPTIONS sip:user@example.com SIP/2.0', { hops: '0' }), options],
  ['cparam01', 'RFC 4475 §3.3.12', 'a parameter of a contact that nobody knows', message('REGISTER sip:example.com SIP/2.0', { contact: 'sip:+19725552222@gw1.example.net;unknownparam' }), [200, 401, 403, 405]],
  ['cparam02', 'RFC 4475 §3.3.13', 'a parameter of a contact\'s URI that nobody knows', message('REGISTER sip:example.com SIP/2.0', { contact: '<sip:+19725552222@gw1.example.net;unknownparam>' }), [200, 401, 403, 405]],
  ['regescrt', 'RFC 4475 §3.3.14', 'a contact with a header for later', message('REGISTER sip:example.com SIP/2.0', { contact: '<sip:user@example.com?Route=%3Csip:sip.example.com%3E>' }), [200, 401, 403, 405]],
  ['sdp01', 'RFC 4475 §3.3.15', 'an offer from who accepts no description', message('INVITE sip:user@example.com SIP/2.0', { more: ['Accept: text/nobodyKnowsThis', ...sdp], body: audio }), [406, 404]],
  ['inv2543', 'RFC 4475 §3.3.16', 'a caller of RFC 2543: no branch, no tag', message('INVITE sip:UserB@example.com SIP/2.0', { via: 'SIP/2.0/{transport} {sender}', from: '<sip:caller@example.net>', hops: null, contact: '<sip:caller@host5.example.net>', more: sdp, body: audio }), valid],
  ['ipv6-good', 'RFC 5118 §4.1', 'an IPv6 address', message('OPTIONS sip:[2001:db8::10] SIP/2.0', { contact: '<sip:user@[2001:db8::1]>' }), options],
  ['ipv6-bad', 'RFC 5118 §4.2', 'an IPv6 address without its brackets', message('OPTIONS sip:2001:db8::10 SIP/2.0'), [400]],
  ['port-ambiguous', 'RFC 5118 §4.3', 'what could be a port, and is not', message('OPTIONS sip:[2001:db8::10:5070] SIP/2.0'), options],
  ['port-unambiguous', 'RFC 5118 §4.4', 'a port after an IPv6 address', message('OPTIONS sip:[2001:db8::10]:5070 SIP/2.0'), options],
  ['received-with-delim', 'RFC 5118 §4.5', 'an IPv6 address in received, with brackets', message('OPTIONS sip:[2001:db8::10] SIP/2.0', { more: ['Via: SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111'] }), options],
  ['received-without-delim', 'RFC 5118 §4.5', 'and without', message('OPTIONS sip:[2001:db8::10] SIP/2.0', { more: ['Via: SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3-111'] }), options],
  ['ipv6-in-sdp', 'RFC 5118 §4.6', 'IPv6 in the description', message('INVITE sip:user@[2001:db8::10] SIP/2.0', { contact: '<sip:user@[2001:db8::20]>', more: sdp, body: audio.replaceAll('IP4 192.0.2.', 'IP6 2001:db8::') }), valid],
  ['mult-ip-in-header', 'RFC 5118 §4.7', 'both families in Via', message('OPTIONS sip:user@[2001:db8::10] SIP/2.0', { more: ['Via: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111', 'Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144'] }), options],
  ['mult-ip-in-sdp', 'RFC 5118 §4.8', 'both families in the description', message('INVITE sip:user@[2001:db8::10] SIP/2.0', { more: sdp, body: `${audio}m=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n` }), valid],
  ['ipv4-mapped-ipv6', 'RFC 5118 §4.9', 'IPv4 as IPv6 in the description', message('INVITE sip:user@example.com SIP/2.0', { more: sdp, body: audio.replace('c=IN IP4 192.0.2.4', 'c=IN IP6 ::ffff:192.0.2.4') }), valid],
  ['ipv6-bug-abnf-3-colons', 'RFC 5118 §4.10', 'three colons in a row, as an older grammar had them', message('OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0'), [200, 400]],
].map(([name, rfc, what, text, may, { transports = ['UDP', 'TCP'], closes = false } = {}]) => ({ name, rfc, what, text, may, transports, closes }));
