// A catalogue in Node: books in MariaDB, a cache in memcached.
// Weak: one connection to the database, made once; when it has broken it is not made anew.
const http = require("node:http");
const mysql = require("mysql2");
const memjs = require("memjs");

const weak = Boolean(process.env.WEAK);
const where = {
  host: process.env.DB_HOST,
  port: Number(process.env.DB_PORT),
  user: process.env.DB_USER,
  password: process.env.DB_PASSWORD,
  database: process.env.DB_NAME,
  connectTimeout: 1000,
};
const database = weak ? mysql.createConnection(where) : mysql.createPool({ ...where, connectionLimit: 8 });
database.on("error", (error) => console.error("database:", error.code));
const cache = memjs.Client.create(process.env.MEMCACHED, { timeout: 0.3, retries: 0, conntimeout: 0.3, logger: { log() {} } });

const ask = (sql, values) =>
  new Promise((done, failed) =>
    database.query({ sql, timeout: 1500 }, values, (error, rows) => (error ? failed(error) : done(rows))));

async function book(number) {
  const key = `book:${number}`;
  const known = await cache.get(key).catch(() => ({ value: null }));
  if (known.value) return known.value.toString();
  const rows = await ask("SELECT title FROM books WHERE number = ?", [number % 10]);
  await cache.set(key, rows[0].title, { expires: 1 }).catch(() => {});
  return rows[0].title;
}

async function answer(request) {
  const path = new URL(request.url, "http://x").pathname;
  if (path === "/health") return { status: "ok" };
  if (path.startsWith("/books/")) return { title: await book(Number(path.slice(7))) };
  return { id: (await ask("INSERT INTO loans (number) VALUES (1)", [])).insertId };
}

const server = http.createServer((request, reply) => {
  request.resume();
  answer(request).then(
    (found) => reply.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(found)),
    (error) => reply.writeHead(503).end(String(error.code || error)));
});
ask("CREATE TABLE IF NOT EXISTS loans (id int PRIMARY KEY AUTO_INCREMENT, number int)", [])
  .then(() => ask("CREATE TABLE IF NOT EXISTS books (number int PRIMARY KEY, title text)", []))
  .then(() => ask("INSERT IGNORE INTO books VALUES " + [...Array(10).keys()].map((n) => `(${n}, 'Volume ${n}')`), []))
  .then(() => server.listen(Number(process.env.PORT), "127.0.0.1"));
