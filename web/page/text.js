// What the page says, in each language. Every problem comes with what to do.

/** @type {Record<string, Record<string, string>>} */
export const texts = {
  en: {
    title: 'Your visit', language: 'Language', lobby: 'Before you join', call: 'In the call', microphone: 'Microphone', camera: 'Camera',
    level: 'Microphone level', noCamera: 'No camera', join: 'Join', answer: 'Answer', decline: 'Decline', mute: 'Mute microphone',
    cameraOff: 'Camera off', hangup: 'Hang up', keypad: 'Keypad', key: 'Key', received: 'Digits received:', again: 'Join again',
    greeting: 'Hello {name}. Check your microphone, then choose Join.', hello: 'Hello. Check your microphone, then choose Join.',
    lobbyState: 'You can join now. You will also be called here if the hospital rings you.', joining: 'Connecting…',
    ringing: 'Ringing the hospital…', incoming: '{peer} is calling you.', incomingUnknown: 'The hospital is calling you.',
    connected: 'You are connected.', audioOnly: 'You are connected. This call carries sound only: your camera picture stays on this device.',
    recorded: 'This call is being recorded at the hospital’s end.',
    held: 'You are on hold. Please wait; the hospital will be back.', reconnecting: 'The connection was lost. Trying to come back to your call…',
    muted: 'Your microphone is off.', unmuted: 'Your microphone is on.',
    'ended.hangup': 'The call has ended.', 'ended.busy': 'The hospital’s telephone is busy. Please try again in a few minutes.',
    'ended.no-answer': 'Nobody answered. Please try again in a few minutes.', 'ended.cancelled': 'The caller gave up. You can call back with Join.',
    'ended.shutdown': 'The service is being restarted. Please try again in a minute.', 'ended.limit': 'The longest time for a call is over.',
    'ended.no-codec': 'Your browser and the hospital’s telephone have no sound format in common. Please use another browser.',
    'ended.failed': 'The call could not be connected. Check your internet connection and try again.',
    'ended.overload': 'Too many calls are going on. Please try again in a few minutes.',
    'ended.emergency': 'This is an emergency number. Call it from a telephone: nobody could find you by this page.',
    'ended.refused': 'The call was not accepted. If this is unexpected, telephone the hospital.', 'ended.over': 'That call is over.',
    'error.expired': 'This link is not valid, or no longer. Ask the hospital for a new one.',
    'error.in-use': 'This link is in use in another window or on another device. Close it there, wait half a minute, then load this page again.',
    'error.bad-message': 'This page and the service do not understand each other. Load the page again.',
    'error.away': 'The hospital cannot be reached at the moment. This page keeps trying.',
    'error.overload': 'Too many people are connected. Please try again in a few minutes.',
    'media.NotAllowedError': 'This page may not use your microphone. Allow it: choose the lock or camera sign beside the address, allow the microphone, and load the page again.',
    'media.NotFoundError': 'No microphone was found. Plug one in, or use another device, and load the page again.',
    'media.NotReadableError': 'Your microphone is used by another program. Close that program and load the page again.',
    'media.insecure': 'Your browser only allows the microphone on a secure page (https). Ask the hospital for the right link.',
    'media.other': 'Your microphone could not be opened. Load the page again, or use another browser.',
    'network.lost': 'Your internet connection was lost. Check your Wi-Fi or mobile data; the page comes back by itself.',
    'network.weak': 'The connection is interrupted. Stay here; it usually comes back by itself.',
    check: 'Check my connection', ask: 'For whoever runs your network',
    'check.busy': 'Looking which ways lead from your network to the hospital…', 'check.socket': 'The service:', 'check.udp': 'Sound by the quick way (UDP):',
    'check.tls': 'Sound by the way through firewalls (TLS):', 'check.works': 'works, {ms} ms.', 'check.fails': 'does not get through.', 'check.lost': '{lost} % is lost.',
    'check.rate': '{up} kbit/s up, {down} kbit/s down.',
    'check.good': 'Your connection is good for a call.', 'check.thin': 'A call works; with a picture your connection is thin. Go closer to your Wi-Fi, or close other programs.',
    'check.soundAlone': 'Your connection is enough for sound, not for a picture.',
    'check.tcp': 'A call works from your network, though it is closed: if the sound stutters, try mobile data or another Wi-Fi.',
    'check.none': 'No call gets through from your network. Try mobile data or another Wi-Fi, or show the text below to whoever runs the network.',
    'check.request': 'Please let browsers open connections to {host}, TCP port {port} (HTTPS, WebSocket, TURN over TLS), without anything that looks into TLS.',
    'check.requestBoth': 'Please let browsers open connections to {host}: TCP port {port} (HTTPS, WebSocket, TURN over TLS, without anything that looks into TLS) and, for better sound, UDP port {udp} (TURN).',
  },
  pt: {
    title: 'A sua consulta', language: 'Idioma', lobby: 'Antes de entrar', call: 'Em chamada', microphone: 'Microfone', camera: 'Câmara',
    level: 'Nível do microfone', noCamera: 'Sem câmara', join: 'Entrar', answer: 'Atender', decline: 'Recusar', mute: 'Desligar microfone',
    cameraOff: 'Desligar câmara', hangup: 'Desligar', keypad: 'Teclado', key: 'Tecla', received: 'Dígitos recebidos:', again: 'Entrar de novo',
    greeting: 'Olá {name}. Verifique o microfone e escolha Entrar.', hello: 'Olá. Verifique o microfone e escolha Entrar.',
    lobbyState: 'Já pode entrar. Se o hospital lhe ligar, a chamada toca aqui.', joining: 'A ligar…',
    ringing: 'A chamar o hospital…', incoming: '{peer} está a ligar-lhe.', incomingUnknown: 'O hospital está a ligar-lhe.',
    connected: 'Está ligado.', audioOnly: 'Está ligado. Esta chamada só leva som: a imagem da sua câmara não sai deste dispositivo.',
    recorded: 'Esta chamada está a ser gravada do lado do hospital.',
    held: 'Está em espera. Aguarde; o hospital volta já.', reconnecting: 'A ligação perdeu-se. A tentar voltar à sua chamada…',
    muted: 'O seu microfone está desligado.', unmuted: 'O seu microfone está ligado.',
    'ended.hangup': 'A chamada terminou.', 'ended.busy': 'O telefone do hospital está ocupado. Tente de novo daqui a alguns minutos.',
    'ended.no-answer': 'Ninguém atendeu. Tente de novo daqui a alguns minutos.', 'ended.cancelled': 'Quem ligava desistiu. Pode ligar de volta com Entrar.',
    'ended.shutdown': 'O serviço está a reiniciar. Tente de novo dentro de um minuto.', 'ended.limit': 'A duração máxima da chamada terminou.',
    'ended.no-codec': 'O seu navegador e o telefone do hospital não têm um formato de som em comum. Use outro navegador.',
    'ended.failed': 'Não foi possível fazer a ligação. Verifique a sua internet e tente de novo.',
    'ended.overload': 'Há demasiadas chamadas a decorrer. Tente de novo daqui a alguns minutos.',
    'ended.emergency': 'Este é um número de emergência. Ligue de um telefone: por esta página ninguém saberia onde está.',
    'ended.refused': 'A chamada não foi aceite. Se não o esperava, telefone para o hospital.', 'ended.over': 'Essa chamada já terminou.',
    'error.expired': 'Esta ligação não é válida, ou já expirou. Peça uma nova ao hospital.',
    'error.in-use': 'Esta ligação está aberta noutra janela ou noutro dispositivo. Feche-a lá, espere meio minuto e carregue esta página de novo.',
    'error.bad-message': 'Esta página e o serviço não se entendem. Carregue a página de novo.',
    'error.away': 'De momento não é possível chegar ao hospital. Esta página continua a tentar.',
    'error.overload': 'Há demasiadas pessoas ligadas. Tente de novo daqui a alguns minutos.',
    'media.NotAllowedError': 'Esta página não pode usar o microfone. Permita-o: escolha o cadeado ou a câmara junto ao endereço, permita o microfone e carregue a página de novo.',
    'media.NotFoundError': 'Não foi encontrado nenhum microfone. Ligue um, ou use outro dispositivo, e carregue a página de novo.',
    'media.NotReadableError': 'O microfone está a ser usado por outro programa. Feche esse programa e carregue a página de novo.',
    'media.insecure': 'O seu navegador só permite o microfone numa página segura (https). Peça ao hospital a ligação certa.',
    'media.other': 'Não foi possível abrir o microfone. Carregue a página de novo, ou use outro navegador.',
    'network.lost': 'A sua ligação à internet perdeu-se. Verifique o Wi-Fi ou os dados móveis; a página volta sozinha.',
    'network.weak': 'A ligação está interrompida. Não saia daqui; costuma voltar sozinha.',
    check: 'Verificar a ligação', ask: 'Para quem gere a sua rede',
    'check.busy': 'A ver que caminhos levam da sua rede ao hospital…', 'check.socket': 'O serviço:', 'check.udp': 'Som pelo caminho rápido (UDP):',
    'check.tls': 'Som pelo caminho através de firewalls (TLS):', 'check.works': 'funciona, {ms} ms.', 'check.fails': 'não passa.', 'check.lost': 'Perde-se {lost} %.',
    'check.rate': '{up} kbit/s a subir, {down} kbit/s a descer.',
    'check.good': 'A sua ligação é boa para uma chamada.', 'check.thin': 'A chamada funciona; com imagem a ligação é fraca. Aproxime-se do Wi-Fi ou feche outros programas.',
    'check.soundAlone': 'A sua ligação chega para o som, não para a imagem.',
    'check.tcp': 'A chamada funciona a partir da sua rede, embora seja fechada: se o som falhar, experimente dados móveis ou outro Wi-Fi.',
    'check.none': 'Nenhuma chamada passa a partir da sua rede. Experimente dados móveis ou outro Wi-Fi, ou mostre o texto abaixo a quem gere a rede.',
    'check.request': 'Pedimos que os navegadores possam abrir ligações para {host}, porta TCP {port} (HTTPS, WebSocket, TURN sobre TLS), sem inspeção de TLS.',
    'check.requestBoth': 'Pedimos que os navegadores possam abrir ligações para {host}: porta TCP {port} (HTTPS, WebSocket, TURN sobre TLS, sem inspeção de TLS) e, para melhor som, porta UDP {udp} (TURN).',
  },
};

/** @type {string} */
export let language = 'en';

/** Chooses the language and puts its words on the page.
 * @param {string} l */
export function speak(l) {
  language = l in texts ? l : 'en';
  document.documentElement.lang = language;
  for (const e of document.querySelectorAll('[data-text]')) e.textContent = say(/** @type {HTMLElement} */ (e).dataset.text ?? '');
  document.title = say('title');
}

/** @param {string} key @param {Record<string, string>} [values] */
export function say(key, values = {}) {
  const t = texts[language][key] ?? texts.en[key] ?? '';
  return t.replace(/\{(\w+)\}/g, (_, k) => values[k] ?? '');
}
