// Owns how a browser signs in: a token is sent once and comes back as a cookie that neither scripts nor other sites can use,
// since an event stream can carry no header of its own. Any gateway that knows the token takes the cookie.
import type { FastifyInstance } from "fastify";
import type { Caller, Callers } from "./callers.ts";
import { addRoute, ok, refuse } from "./route.ts";

interface Credentials {
  readonly authorization?: string | undefined;
  readonly cookie?: string | undefined;
}

const cookieName = "warmpath-token";
const sessionUrl = "/api/v1/session";

/** Whose token came, as `Authorization: Bearer` or in the cookie of a browser that has signed in. */
export async function findCaller({ authorization, cookie }: Credentials, callers: Callers): Promise<Caller | undefined> {
  const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
  if (bearer !== undefined) return await callers.find(bearer);
  const pair = cookie?.split(/; */).find((each) => each.startsWith(`${cookieName}=`));
  if (pair === undefined) return undefined;
  const token = decoded(pair.slice(cookieName.length + 1));
  return token === undefined ? undefined : await callers.find(token);
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Without callers nobody has to sign in, and the session says so. */
export function addSession(app: FastifyInstance, callers: Callers | undefined): void {
  addRoute(app, {
    method: "GET",
    url: sessionUrl,
    summary: "Whether the page needs a token, and whose it has.",
    isOpen: true,
    answers: { 200: "`login`: a token is needed; `caller`: name and role, null before." },
    handle: async ({ header }) => {
      const caller = callers && (await findCaller({ authorization: header("authorization"), cookie: header("cookie") }, callers));
      return ok({ login: callers !== undefined, caller: caller ?? null });
    },
  });
  if (callers === undefined) return;
  const options = { schema: { hide: true }, config: { isOpen: true } };
  app.post(sessionUrl, options, async (request, reply) => {
    const { body } = request;
    const token = typeof body === "object" && body !== null && "token" in body ? body.token : undefined;
    const caller = typeof token === "string" ? await callers.find(token) : undefined;
    if (typeof token !== "string" || caller === undefined || caller.role === "none") {
      const { status, body: refusal } = refuse("unauthenticated", "no such token");
      return reply.code(status).send(refusal);
    }
    return reply.header("set-cookie", buildCookie(token, request.headers.origin)).send({ login: true, caller });
  });
  app.delete(sessionUrl, options, async (request, reply) =>
    reply.header("set-cookie", `${buildCookie("", request.headers.origin)}; Max-Age=0`).send({ login: true, caller: null }),
  );
}

/** Over TLS, which may end before the gateway, the browser is told to send it over nothing else. */
function buildCookie(token: string, origin: string | undefined): string {
  const secure = origin?.startsWith("https:") === true ? "; Secure" : "";
  return `${cookieName}=${encodeURIComponent(token)}; Path=/; HttpOnly; SameSite=Strict${secure}`;
}
