// Owns the joint between protobuf-es (service descriptors, message shapes) and @grpc/grpc-js (servers, clients, calls).
// Invariants: a method's types come from its descriptor, or from the hand-written codec put in its place; a unary or
// client-streaming call always has a deadline; an aborted call rejects with the signal's reason.
import { type DescMessage, type DescMethod, type DescService, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  type CallOptions as GrpcCallOptions,
  credentials as grpcCredentials,
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  type Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";

/** Hand-written halves of a method's codec. What is left out is done by protobuf-es. */
export interface MethodCodec {
  readonly requestSerialize?: (request: never) => Buffer;
  readonly requestDeserialize?: (bytes: Buffer) => unknown;
  readonly responseSerialize?: (response: never) => Buffer;
  readonly responseDeserialize?: (bytes: Buffer) => unknown;
}

/** Codecs by the method's local name (camel case, as in the generated service). */
export type ServiceCodecs<Desc extends DescService> = { readonly [K in keyof Desc["method"]]?: MethodCodec | undefined };

/** No hand-written codec. */
export type NoCodecs = Readonly<Record<string, undefined>>;

type CodecOf<Codecs, K> = K extends keyof Codecs ? Codecs[K] : undefined;
type ShapeOf<Message> = Message extends DescMessage ? MessageShape<Message> : never;
type Written<Codec, Half extends string, Message> = Codec extends { readonly [H in Half]: (value: infer Value) => Buffer }
  ? Value
  : ShapeOf<Message>;
type Read<Codec, Half extends string, Message> = Codec extends { readonly [H in Half]: (bytes: Buffer) => infer Value }
  ? Value
  : ShapeOf<Message>;

type HandlerOf<Method extends DescMethod, Codec> = Method["methodKind"] extends "unary"
  ? handleUnaryCall<Read<Codec, "requestDeserialize", Method["input"]>, Written<Codec, "responseSerialize", Method["output"]>>
  : Method["methodKind"] extends "server_streaming"
    ? handleServerStreamingCall<
        Read<Codec, "requestDeserialize", Method["input"]>,
        Written<Codec, "responseSerialize", Method["output"]>
      >
    : Method["methodKind"] extends "client_streaming"
      ? handleClientStreamingCall<
          Read<Codec, "requestDeserialize", Method["input"]>,
          Written<Codec, "responseSerialize", Method["output"]>
        >
      : handleBidiStreamingCall<
          Read<Codec, "requestDeserialize", Method["input"]>,
          Written<Codec, "responseSerialize", Method["output"]>
        >;

/** One grpc-js handler per method, typed by the descriptor and by the codecs in place of the generated ones. */
export type ServiceHandlers<Desc extends DescService, Codecs extends ServiceCodecs<Desc> = NoCodecs> = {
  readonly [K in keyof Desc["method"]]: HandlerOf<Desc["method"][K], CodecOf<Codecs, K>>;
};

/** What every call may carry. */
export interface StreamOptions {
  /** The whole call's limit; none when absent. */
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  readonly metadata?: Metadata;
}

/** Unary and client-streaming calls wait for one answer, so they must say for how long. */
export interface CallOptions extends StreamOptions {
  readonly timeoutMs: number;
}

/** The answer, and the call beside it (metadata, status, cancel, and `write` when the request streams). */
export type PendingCall<Response, Call> = Promise<Response> & { readonly call: Call };

type ClientMethodOf<Method extends DescMethod, Codec> = Method["methodKind"] extends "unary"
  ? (
      request: Written<Codec, "requestSerialize", Method["input"]>,
      options: CallOptions,
    ) => PendingCall<Read<Codec, "responseDeserialize", Method["output"]>, ClientUnaryCall>
  : Method["methodKind"] extends "server_streaming"
    ? (
        request: Written<Codec, "requestSerialize", Method["input"]>,
        options?: StreamOptions,
      ) => ClientReadableStream<Read<Codec, "responseDeserialize", Method["output"]>>
    : Method["methodKind"] extends "client_streaming"
      ? (
          options: CallOptions,
        ) => PendingCall<
          Read<Codec, "responseDeserialize", Method["output"]>,
          ClientWritableStream<Written<Codec, "requestSerialize", Method["input"]>>
        >
      : (
          options?: StreamOptions,
        ) => ClientDuplexStream<
          Written<Codec, "requestSerialize", Method["input"]>,
          Read<Codec, "responseDeserialize", Method["output"]>
        >;

export type ClientMethods<Desc extends DescService, Codecs extends ServiceCodecs<Desc> = NoCodecs> = {
  readonly [K in keyof Desc["method"]]: ClientMethodOf<Desc["method"][K], CodecOf<Codecs, K>>;
};

/** A client of one service. Disposing it closes the channel; calls under way are left to end. */
export type ServiceClient<Desc extends DescService, Codecs extends ServiceCodecs<Desc> = NoCodecs> = ClientMethods<Desc, Codecs> &
  Disposable & { readonly channel: Client };

export interface ClientOptions<Codecs> {
  readonly channel?: ChannelOptions;
  readonly codecs?: Codecs;
}

/** The grpc-js definition of a service. Keys are local names; `codecs` replaces halves of single methods. */
export function serviceDefinition<Desc extends DescService, const Codecs extends ServiceCodecs<Desc> = NoCodecs>(
  desc: Desc,
  codecs?: Codecs,
): ServiceDefinition<ServiceHandlers<Desc, Codecs>> {
  const byName: Readonly<Record<string, MethodCodec | undefined>> = codecs ?? {};
  const definition = Object.fromEntries(
    desc.methods.map((method) => [method.localName, methodDefinition(method, byName[method.localName])]),
  );
  // The keys of desc.methods are those of desc.method by construction of the descriptor; fromEntries forgets them.
  return definition as ServiceDefinition<ServiceHandlers<Desc, Codecs>>;
}

/** Registers a service. A method without a handler answers UNIMPLEMENTED. */
export function addService<Desc extends DescService, const Codecs extends ServiceCodecs<Desc> = NoCodecs>(
  server: Server,
  desc: Desc,
  handlers: Partial<ServiceHandlers<Desc, Codecs>>,
  codecs?: Codecs,
): void {
  // grpc-js takes handlers untyped; ServiceHandlers has just proved that they fit the definition.
  const definition = serviceDefinition(desc, codecs) as ServiceDefinition;
  server.addService(definition, handlers as UntypedServiceImplementation);
}

/** A typed client. The address is `host:port` or `unix:/path`; the connection is opened by the first call. */
export function createClient<Desc extends DescService, const Codecs extends ServiceCodecs<Desc> = NoCodecs>(
  desc: Desc,
  address: string,
  credentials: ChannelCredentials = grpcCredentials.createInsecure(),
  options: ClientOptions<Codecs> = {},
): ServiceClient<Desc, Codecs> {
  const channel = new Client(address, credentials, options.channel);
  const byName: Readonly<Record<string, MethodCodec | undefined>> = options.codecs ?? {};
  const methods = Object.fromEntries(
    desc.methods.map((method) => [
      method.localName,
      clientMethod(channel, method.methodKind, methodDefinition(method, byName[method.localName])),
    ]),
  );
  // As above: the entries are the descriptor's methods, each made for its own kind.
  return Object.assign(methods as ClientMethods<Desc, Codecs>, { channel, [Symbol.dispose]: () => channel.close() });
}

/** Binds a server to `host:port` (port 0 takes a free one) or `unix:/path`. Returns the port. */
export async function bindServer(
  server: Server,
  address: string,
  credentials: ServerCredentials = ServerCredentials.createInsecure(),
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.bindAsync(address, credentials, (error, port) => (error === null ? resolve(port) : reject(error)));
  return promise;
}

/**
 * Lets a connection live through any number of cancelled calls. Node's HTTP/2 server ends a connection after 1,000 resets at
 * more than 33 a second, with all calls on it; behind Envoy one connection carries the cancellations of all clients.
 * grpc-js has no option for it, so this reaches for the options that it hands to Node; a test notices if they move.
 */
export function allowResets(server: Server): void {
  const options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof options === "object" && options !== null)
    Object.assign(options, { streamResetBurst: 2 ** 31, streamResetRate: 2 ** 31 });
}

/** Lets calls under way end for so long, then cuts them. */
export async function closeServer(server: Server, graceMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const late = setTimeout(() => {
    server.forceShutdown();
    resolve();
  }, graceMs);
  server.tryShutdown(() => resolve());
  await promise;
  clearTimeout(late);
}

type Untyped = MethodDefinition<unknown, unknown>;

function methodDefinition(method: DescMethod, codec: MethodCodec = {}): Untyped {
  const { methodKind, input, output } = method;
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: methodKind === "client_streaming" || methodKind === "bidi_streaming",
    responseStream: methodKind === "server_streaming" || methodKind === "bidi_streaming",
    requestSerialize: writer(codec.requestSerialize, input),
    requestDeserialize: codec.requestDeserialize ?? ((bytes) => fromBinary(input, bytes)),
    responseSerialize: writer(codec.responseSerialize, output),
    responseDeserialize: codec.responseDeserialize ?? ((bytes) => fromBinary(output, bytes)),
  };
}

function writer(own: ((value: never) => Buffer) | undefined, desc: DescMessage): (value: unknown) => Buffer {
  // Only the typed handlers and clients above reach this; they prove that the value is what the codec writes.
  if (own !== undefined) return own as (value: unknown) => Buffer;
  return (value) => {
    const bytes = toBinary(desc, value as MessageShape<DescMessage>);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function clientMethod(channel: Client, kind: DescMethod["methodKind"], method: Untyped): unknown {
  const { path, requestSerialize: write, responseDeserialize: read } = method;
  const byKind = {
    unary: (request: unknown, options: CallOptions) =>
      pending(options, (call, done) => channel.makeUnaryRequest(path, write, read, request, metadataOf(options), call, done)),
    client_streaming: (options: CallOptions) =>
      pending(options, (call, done) => channel.makeClientStreamRequest(path, write, read, metadataOf(options), call, done)),
    server_streaming: (request: unknown, options: StreamOptions = {}) =>
      cancelled(
        channel.makeServerStreamRequest(path, write, read, request, metadataOf(options), grpcOptions(options)),
        options.signal,
      ),
    bidi_streaming: (options: StreamOptions = {}) =>
      cancelled(channel.makeBidiStreamRequest(path, write, read, metadataOf(options), grpcOptions(options)), options.signal),
  } satisfies Record<DescMethod["methodKind"], unknown>;
  return byKind[kind];
}

type Done = (error: ServiceError | null, value?: unknown) => void;

function pending<Call extends ClientUnaryCall>(
  options: CallOptions,
  start: (options: GrpcCallOptions, done: Done) => Call,
): PendingCall<unknown, Call> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const { signal } = options;
  const call = start(grpcOptions(options), (error, value) => {
    if (error === null) resolve(value);
    else reject(signal?.aborted === true ? signal.reason : error);
  });
  // Who only uses the call need not catch the answer as well.
  promise.catch(() => undefined);
  return Object.assign(promise, { call: cancelled(call, signal) });
}

/** Ties a call to a signal for as long as the call lasts. */
function cancelled<Call extends ClientUnaryCall>(call: Call, signal: AbortSignal | undefined): Call {
  if (signal === undefined) return call;
  const cancel = (): void => call.cancel();
  if (signal.aborted) cancel();
  else {
    signal.addEventListener("abort", cancel, { once: true });
    call.once("status", () => signal.removeEventListener("abort", cancel));
  }
  return call;
}

function grpcOptions(options: StreamOptions): GrpcCallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

function metadataOf(options: StreamOptions): Metadata {
  return options.metadata ?? new Metadata();
}
